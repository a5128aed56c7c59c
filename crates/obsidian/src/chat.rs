//! `obsidian chat`: one question, or a conversation when none is given.

use std::io::{BufRead, IsTerminal, Write};
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};

use crate::client::{self, Answer, stream_chat};
use crate::config::DEFAULT_LISTEN;
use crate::exit::Stop;

/// Ask a POP; without a prompt, each line of the terminal is a turn of one conversation
#[derive(Args)]
pub(crate) struct ChatArguments {
    /// What to ask
    prompt: Option<String>,
    /// The POP's address
    #[arg(long, env = "OBSIDIAN_URL", default_value_t = format!("http://{DEFAULT_LISTEN}"))]
    url: String,
    /// API key, where the POP asks for one
    #[arg(long, env = "OBSIDIAN_API_KEY", hide_env_values = true)]
    key: Option<String>,
    /// `auto` lets the POP decide; `edge` and `hub` force a tier
    #[arg(long, default_value = "auto")]
    model: String,
    /// Instructions above the conversation
    #[arg(long)]
    system: Option<String>,
    /// Most tokens of an answer
    #[arg(long, default_value_t = obsidian_types::limits::DEFAULT_MAX_TOKENS)]
    max_tokens: u32,
    /// 0 always takes the likeliest token
    #[arg(long, default_value_t = 0.0)]
    temperature: f32,
    /// The same seed gives the same answer
    #[arg(long)]
    seed: Option<u64>,
    /// Print one JSON object per answer instead of text
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) async fn run(arguments: ChatArguments) -> Result<()> {
    let mut messages = Vec::new();
    if let Some(system) = &arguments.system {
        messages.push(json!({"role": "system", "content": system}));
    }
    // Made before any clock runs: loading the system's certificates is not the POP's time.
    let client = client::new()?;
    if let Some(prompt) = &arguments.prompt {
        return turn(&client, &arguments, &mut messages, prompt).await;
    }
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        eprintln!("A line is a turn; Ctrl-D ends the conversation.");
    }
    let mut turns = 0;
    for line in stdin.lock().lines() {
        let line = line?;
        if !line.trim().is_empty() {
            turn(&client, &arguments, &mut messages, &line).await?;
            turns += 1;
        }
    }
    if turns == 0 {
        return Err(Stop::Usage(
            "nothing to ask: give a prompt, for example `obsidian chat \"What is Obsidian?\"`".into(),
        )
        .into());
    }
    Ok(())
}

async fn turn(
    client: &reqwest::Client,
    arguments: &ChatArguments,
    messages: &mut Vec<Value>,
    prompt: &str,
) -> Result<()> {
    messages.push(json!({"role": "user", "content": prompt}));
    let mut body = json!({
        "model": arguments.model,
        "messages": messages,
        "max_tokens": arguments.max_tokens,
        "temperature": arguments.temperature,
        "stream": true,
        "stream_options": {"include_usage": true},
    });
    if let Some(seed) = arguments.seed {
        body["seed"] = json!(seed);
    }
    let started = Instant::now();
    let mut first_token = None;
    let answer = stream_chat(client, &arguments.url, arguments.key.as_deref(), &body, |text| {
        first_token.get_or_insert_with(|| started.elapsed());
        if !arguments.json {
            print!("{text}");
            // A terminal that went away is noticed by the final println.
            let _ = std::io::stdout().flush();
        }
    })
    .await?;
    let first_token = first_token.unwrap_or_else(|| started.elapsed());
    if arguments.json {
        println!("{}", as_json(&answer, first_token, started.elapsed()));
    } else {
        println!();
        eprintln!("{}", summary(&answer, first_token, started.elapsed()));
    }
    messages.push(json!({"role": "assistant", "content": answer.text}));
    Ok(())
}

fn as_json(answer: &Answer, first_token: Duration, total: Duration) -> Value {
    json!({
        "text": answer.text,
        "finish_reason": answer.finish_reason,
        "usage": answer.usage,
        "obsidian": answer.extension,
        "first_token_ms": first_token.as_secs_f64() * 1e3,
        "total_ms": total.as_secs_f64() * 1e3,
    })
}

/// One line: where it ran and why, how the drafts fared, how long it took, what crossed the WAN.
fn summary(answer: &Answer, first_token: Duration, total: Duration) -> String {
    let extension = &answer.extension;
    let number = |name: &str| extension[name].as_u64().unwrap_or_default();
    let drafted = number("accepted") + number("rejected");
    let drafts = match drafted {
        0 => "no drafts".to_owned(),
        _ => format!("{} of {drafted} drafts accepted", number("accepted")),
    };
    format!(
        "[{}{} because {} · {} tokens · {drafts} · first token {:.1} ms, all {:.1} ms · WAN {} B up, {} B down]",
        extension["route"].as_str().unwrap_or("?"),
        if extension["degraded"] == Value::Bool(true) { ", degraded" } else { "" },
        extension["reason"].as_str().unwrap_or("?"),
        answer.usage["completion_tokens"],
        first_token.as_secs_f64() * 1e3,
        total.as_secs_f64() * 1e3,
        number("wan_bytes_up"),
        number("wan_bytes_down"),
    )
}
