//! The `obsidian` command. One file per subcommand; this one parses and dispatches.
//!
//! `up`, `edge` and `hub` put the roles together (`node.rs` builds their parts); `chat` is a client;
//! `model` keeps models, `config` looks at configuration files, `doctor` at everything a node needs; `key` makes keys,
//! `module` builds, signs, judges, moves and runs modules, `fn` deploys them; `guest` exchanges the POP's own. Exit codes are in `exit.rs`.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool speaks to its terminal")]

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod allocator;
mod chat;
mod client;
mod config;
mod data_dir;
mod doctor;
mod edge;
mod exit;
mod function;
mod guest;
mod guests;
mod hub;
mod key;
mod logging;
mod model;
mod module;
mod node;
mod shipped;
mod telemetry;
mod up;

#[derive(Parser)]
#[command(
    name = "obsidian",
    version,
    about = "A node of a geo-distributed AI fabric: private, exact, answers beside the user",
    after_help = "Start with `obsidian up` in one terminal and `obsidian chat \"What is Obsidian?\"` in another.\n\n\
                  Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused by policy or signature, 4 unavailable."
)]
struct Arguments {
    /// How log lines on standard error look
    #[arg(long, global = true, env = "OBSIDIAN_LOG_FORMAT", default_value = "text")]
    log_format: logging::LogFormat,
    /// Log level, or a list such as `info,obsidian_edge=debug`; while a guest has the terminal, `warn` unless set
    #[arg(long, global = true, env = "OBSIDIAN_LOG", default_value = LOG)]
    log: String,
    #[command(subcommand)]
    command: Command,
}

/// Log level unless told otherwise.
const LOG: &str = "info";

impl Arguments {
    fn log(&self) -> &str {
        match &self.command {
            Command::Module(arguments) if arguments.runs_a_guest() && self.log == LOG => "warn",
            _ => &self.log,
        }
    }
}

#[derive(Subcommand)]
enum Command {
    Up(up::UpArguments),
    Chat(chat::ChatArguments),
    Edge(edge::EdgeArguments),
    Hub(hub::HubArguments),
    Model(model::ModelArguments),
    Config(config::command::ConfigArguments),
    Key(key::KeyArguments),
    Module(module::ModuleArguments),
    #[command(name = "fn")]
    Function(function::FunctionArguments),
    Guest(guest::GuestArguments),
    Doctor(doctor::DoctorArguments),
}

fn main() -> ExitCode {
    allocator::settle();
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", exit::shown(&error));
            exit::code(&error)
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode> {
    logging::start(arguments.log_format, arguments.log())?;
    node::install_cryptography();
    if matches!(arguments.command, Command::Up(_) | Command::Edge(_) | Command::Hub(_)) {
        allocator::keep_small();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .on_thread_start(obsidian_sandbox::run_promptly)
        .build()?;
    match arguments.command {
        Command::Up(arguments) => runtime.block_on(up::run(arguments)),
        Command::Chat(arguments) => runtime.block_on(chat::run(arguments)),
        Command::Edge(arguments) => runtime.block_on(edge::run(arguments)),
        Command::Hub(arguments) => runtime.block_on(hub::run(arguments)),
        Command::Model(arguments) => runtime.block_on(model::run(arguments)),
        Command::Config(arguments) => config::command::run(&arguments),
        Command::Key(arguments) => key::run(&arguments),
        Command::Function(arguments) => runtime.block_on(function::run(arguments)),
        Command::Guest(arguments) => runtime.block_on(guest::run(arguments)),
        Command::Module(arguments) => return runtime.block_on(module::run(arguments)),
        Command::Doctor(arguments) => runtime.block_on(doctor::run(arguments)),
    }?;
    Ok(ExitCode::SUCCESS)
}
