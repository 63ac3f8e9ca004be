//! The command line: arguments, output and exit codes (0 done, 1 failed, 2 a bad configuration).

use crate::app::{self, Invocation};
use crate::config;
use crate::config::Checked;
use crate::credential::api_key::{ApiKey, Presented};
use crate::kit::entropy::SystemEntropy;
use crate::telemetry::log;
use clap::{Args, Parser, Subcommand};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// An authenticating reverse proxy: OpenID Connect and bearer tokens in front of web apps.
#[derive(Parser, Debug)]
#[command(name = "doorward", version, args_conflicts_with_subcommands = true)]
pub struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Runs the gateway (the default).
    Run(RunArgs),
    /// Reads and validates the configuration, contacts nothing, prints every problem.
    Check(ConfigArgs),
    /// Everything on loopback in one process: gateway, development provider, sample app.
    #[cfg(feature = "demo")]
    Demo(DemoArgs),
    /// Prints the JSON Schema of the configuration file.
    Schema,
    /// Makes an API key; prints it, and the lines for `api_keys` in the configuration.
    ApiKey,
}

#[derive(Args, Debug, Default)]
struct RunArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Takes the listeners over from a running process, which then gets SIGQUIT.
    #[arg(long)]
    upgrade: bool,
}

#[derive(Args, Debug, Default)]
struct ConfigArgs {
    /// The configuration file.
    #[arg(short, long, default_value = "config.yaml")]
    config: PathBuf,
}

#[cfg(feature = "demo")]
#[derive(Args, Debug)]
struct DemoArgs {
    /// The gateway's port; all others are free ones.
    #[arg(long, default_value_t = 8080)]
    port: u16,
}

const FAILED: u8 = 1;
const BAD_CONFIG: u8 = 2;

/// Executes the parsed command line.
pub fn execute(line: CommandLine) -> ExitCode {
    match line.command.unwrap_or(Command::Run(line.run)) {
        Command::Run(args) => run(args),
        Command::Check(args) => check(&args),
        #[cfg(feature = "demo")]
        Command::Demo(args) => demo(args.port),
        Command::ApiKey => api_key(),
        Command::Schema => {
            say(&format!("{:#}", config::schema::json()));
            ExitCode::SUCCESS
        }
    }
}

fn check(args: &ConfigArgs) -> ExitCode {
    match config::load(&args.config) {
        Ok(checked) => {
            checked.warnings.iter().for_each(|warning| complain(&warning.to_string()));
            say(&format!("{}: good", args.config.display()));
            ExitCode::SUCCESS
        }
        Err(problems) => {
            problems.iter().for_each(|problem| say(&problem.to_string()));
            ExitCode::from(BAD_CONFIG)
        }
    }
}

fn run(args: RunArgs) -> ExitCode {
    let checked = match config::load(&args.config.config) {
        Ok(checked) => checked,
        Err(problems) => {
            problems.iter().for_each(|problem| complain(&problem.to_string()));
            return ExitCode::from(BAD_CONFIG);
        }
    };
    start(Invocation { config: args.config.config, upgrade: args.upgrade }, checked)
}

fn start(invocation: Invocation, checked: Checked) -> ExitCode {
    let log = Arc::new(log::start(checked.settings.file.logging));
    for warning in &checked.warnings {
        tracing::warn!(%warning, "configuration");
    }
    match app::run(invocation, checked.settings, log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            complain(&problem);
            ExitCode::from(FAILED)
        }
    }
}

/// The key itself is stored nowhere: the printed one is the only copy.
fn api_key() -> ExitCode {
    let key = ApiKey::generate(&SystemEntropy::default());
    let Some(Presented { id, digest }) = ApiKey::parse(key.expose()) else { return ExitCode::from(FAILED) };
    say(&format!("# The key, for the program that uses it. It is not shown again:\n#   {}\n", key.expose()));
    say(&format!("# For the configuration:\napi_keys:\n  - id: {id}\n    digest: {}", digest.hex()));
    say("    user: CHANGE-ME      # who the app is told it is; also email, groups, scopes, routes, expires_at");
    ExitCode::SUCCESS
}

#[cfg(feature = "demo")]
fn demo(port: u16) -> ExitCode {
    match demo_config(port) {
        // The demo's provider runs on this runtime until the process ends.
        Ok((_runtime, _demo, config, checked)) => start(Invocation { config, upgrade: false }, checked),
        Err(problem) => {
            complain(&problem);
            ExitCode::from(FAILED)
        }
    }
}

/// Starts the demo's provider and app, and checks a configuration made for them.
#[cfg(feature = "demo")]
fn demo_config(port: u16) -> Result<(tokio::runtime::Runtime, crate::demo::Demo, PathBuf, Checked), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|e| e.to_string())?;
    let demo = runtime.block_on(crate::demo::Demo::start(port)).map_err(|e| format!("the demo cannot start: {e}"))?;
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).map_err(|e| e.to_string())?;
    let config = PathBuf::from(format!("demo-{port}.yaml")); // never written: the name is for messages only
    let text = demo.config_yaml(free.port());
    let checked = config::check(&config::Sources { file: &config, text: &text, env: Vec::new() });
    let checked = checked.map_err(|all| all.iter().map(|p| format!("{p}\n")).collect::<String>())?;
    say(&demo.banner());
    Ok((runtime, demo, config, checked))
}

/// Prints to standard output; a closed pipe is not an error.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
