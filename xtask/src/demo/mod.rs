//! The demo: a hub and a POP as two processes on loopback, real requests on the shipped models, one table.
//!
//! Start at [`run`]. `xtask::fabric` starts and stops the two processes and speaks OpenAI's API to the POP;
//! `requests` says what is sent and what counts as right.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::command;

mod requests;

use requests::Request;
use xtask::fabric::Fabric;
use xtask::fabric::client::{self, Answer};

/// Builds, starts, asks, reports. With `once`, fails unless every request was right; without, stays up.
pub(crate) fn run(once: bool) -> Result<()> {
    command::cargo(["build", "--package", "obsidian"])?;
    let mut fabric = Fabric::start(&built_binary()?)?;
    println!(
        "\nPOP on {}, hub on {}, data in {}\n",
        fabric.pop_url(),
        fabric.hub_address(),
        fabric.data_dir().display()
    );

    let mut wrong = Vec::new();
    print_heading();
    for request in requests::all() {
        fabric.set_hub_running(request.hub_is_up)?;
        let answer = ask(&mut fabric, &request)?;
        print_row(&request, &answer);
        wrong.extend(request.problems(&answer).into_iter().map(|problem| format!("{}: {problem}", request.title)));
    }
    let leaks = fabric.find_in_hub_files(&requests::planted_secrets())?;
    println!("\nplanted secrets found in the hub's log and files: {}", leaks.len());
    wrong.extend(leaks.into_iter().map(|leak| format!("a secret reached the hub: {leak}")));

    for problem in &wrong {
        eprintln!("wrong: {problem}");
    }
    if once {
        if !wrong.is_empty() {
            bail!("{} of the demo's checks were wrong", wrong.len());
        }
        println!("every request was right");
        return Ok(());
    }
    fabric.set_hub_running(true)?;
    stay_up(&fabric)
}

fn ask(fabric: &mut Fabric, request: &Request) -> Result<Answer> {
    let (url, body) = (fabric.pop_url(), request.body());
    let answer = if request.kill_hub_in_stream {
        fabric.chat_and_kill_hub(&body)
    } else {
        client::chat(&url, &body, request.stream, || Ok(()))
    };
    answer.with_context(|| format!("request `{}`", request.title))
}

fn print_heading() {
    println!(
        "{:<34} {:<5} {:<26} {:>9} {:>9} {:>9} {:>13}",
        "request", "route", "reason", "accepted", "rejected", "TTFT ms", "WAN up/down B"
    );
}

fn print_row(request: &Request, answer: &Answer) {
    println!(
        "{:<34} {:<5} {:<26} {:>9} {:>9} {:>9.1} {:>6}/{:<6}{}",
        request.title,
        answer.route,
        answer.reason,
        answer.accepted,
        answer.rejected,
        answer.first_token.as_secs_f64() * 1e3,
        answer.wan_bytes_up,
        answer.wan_bytes_down,
        if answer.degraded { " degraded" } else { "" },
    );
    println!("    > {}", request.last_line());
    for line in answer.text.lines() {
        println!("    < {line}");
    }
}

fn stay_up(fabric: &Fabric) -> Result<()> {
    let url = fabric.pop_url();
    println!("\nThe fabric stays up; Ctrl-C ends it. Talk to it from another terminal:");
    println!("  {} chat --url {url} \"What is Obsidian?\"", fabric.binary().display());
    println!(
        "  curl {url}/v1/chat/completions -H 'content-type: application/json' \\\n    -d '{{\"model\":\"auto\",\"messages\":[{{\"role\":\"user\",\"content\":\"What is Obsidian?\"}}]}}'"
    );
    println!("  curl {url}/metrics");
    loop {
        // Ctrl-C reaches the whole process group: the two nodes finish their streams and end with this task.
        std::thread::sleep(Duration::from_secs(1));
        fabric.check_alive()?;
    }
}

/// The binary beside this task's own: both come from the same target directory and profile.
fn built_binary() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let binary = own.parent().context("xtask lies in no folder")?.join("obsidian");
    if !binary.exists() {
        bail!("{} was not built", binary.display());
    }
    Ok(binary)
}
