//! The command line: arguments, output and exit codes (0 done, 1 failed, 2 a bad configuration).

use crate::app::explain::{self, Question};
use crate::app::{self, Invocation, manual};
use crate::config;
use crate::config::Checked;
use crate::credential::api_key::{ApiKey, Presented};
use crate::kit::entropy::SystemEntropy;
use crate::telemetry::log;
use anstyle::{AnsiColor, Style};
use clap::{Args, CommandFactory, Parser, Subcommand};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// An authenticating reverse proxy: OpenID Connect and bearer tokens in front of web apps.
#[derive(Parser, Debug)]
#[command(name = "doorward", version)]
pub struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
    /// The configuration file; `-` is standard input.
    #[arg(short, long, global = true, default_value = "config.yaml")]
    config: PathBuf,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Runs the gateway (the default).
    Run(RunArgs),
    /// Reads and validates the configuration, contacts nothing, prints every problem.
    Check(CheckArgs),
    /// Judges one request as the gateway would, contacting nothing.
    Explain(ExplainArgs),
    /// Prints the effective configuration, each value with where it comes from.
    Config,
    /// Prints a configuration made of another gateway's.
    #[command(subcommand)]
    Import(Import),
    /// Everything on loopback in one process: gateway, development provider, sample app.
    #[cfg(feature = "demo")]
    Demo(DemoArgs),
    /// Prints the JSON Schema of the configuration file.
    Schema,
    /// Makes an API key; prints it, and the lines for `api_keys` in the configuration.
    ApiKey,
    /// Prints completions for a shell.
    Completions { shell: clap_complete::Shell },
    /// Prints the manual page.
    Man,
}

#[derive(Args, Debug, Default)]
struct RunArgs {
    /// Takes the listeners over from a running process, which then gets SIGQUIT.
    #[arg(long)]
    upgrade: bool,
}

#[derive(Args, Debug)]
struct CheckArgs {
    /// A warning counts as a problem.
    #[arg(long)]
    strict: bool,
    #[arg(long, value_enum, default_value_t = Form::Text)]
    format: Form,
}

#[derive(Args, Debug)]
struct ExplainArgs {
    method: String,
    /// As a client would ask, such as https://app.example.com/x.
    url: String,
    /// A header of the request: 'Name: value'.
    #[arg(short = 'H', long = "header")]
    headers: Vec<String>,
    /// A file with a JSON object of claims, for somebody with a good credential; `-` is standard input.
    #[arg(long)]
    claims: Option<PathBuf>,
    /// The address that the request comes from.
    #[arg(long, default_value = "127.0.0.1")]
    peer: std::net::IpAddr,
    #[arg(long, value_enum, default_value_t = Form::Text)]
    format: Form,
}

#[derive(Subcommand, Debug)]
enum Import {
    /// Of oauth2-proxy: TOML, alpha YAML and environment files, together.
    #[command(name = "oauth2-proxy")]
    Oauth2Proxy {
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    Text,
    Json,
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
/// `explain`: the request is refused, or sent to a login.
const REFUSED: u8 = 3;

/// Executes the parsed command line.
pub fn execute(line: CommandLine) -> ExitCode {
    let file = line.config;
    match line.command.unwrap_or(Command::Run(line.run)) {
        Command::Run(args) => run(file, args),
        Command::Check(args) => check(&file, &args),
        Command::Explain(args) => explain(&file, &args),
        Command::Config => print_config(&file),
        Command::Import(Import::Oauth2Proxy { files }) => import_oauth2_proxy(files),
        #[cfg(feature = "demo")]
        Command::Demo(args) => demo(args.port),
        Command::ApiKey => api_key(),
        Command::Schema => {
            say(&format!("{:#}", config::schema::json()));
            ExitCode::SUCCESS
        }
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut CommandLine::command(), "doorward", &mut text);
            say(String::from_utf8_lossy(&text).trim_end());
            ExitCode::SUCCESS
        }
        Command::Man => match manual::page(CommandLine::command()) {
            Ok(text) => {
                say(text.trim_end());
                ExitCode::SUCCESS
            }
            Err(_) => ExitCode::from(FAILED),
        },
    }
}

fn check(file: &Path, args: &CheckArgs) -> ExitCode {
    let (problems, warnings) = match config::load(file) {
        Ok(checked) => (Vec::new(), checked.warnings),
        Err(all) => all.into_iter().partition(|problem| !problem.is_warning()),
    };
    let is_good = problems.is_empty() && (warnings.is_empty() || !args.strict);
    match args.format {
        Form::Json => {
            let problems = problems.iter().map(|problem| problem.json("error"));
            let all: Vec<_> = problems.chain(warnings.iter().map(|warning| warning.json("warning"))).collect();
            say(&serde_json::Value::Array(all).to_string());
        }
        Form::Text => {
            problems.iter().for_each(|problem| say_styled(&problem.styled(AnsiColor::Red)));
            let told: fn(&str) = if args.strict { say_styled } else { complain_styled };
            warnings.iter().for_each(|warning| told(&warning.styled(AnsiColor::Yellow)));
            if is_good {
                let good = AnsiColor::Green.on_default().bold();
                say_styled(&format!("{}: {good}good{good:#}", file.display()));
            }
        }
    }
    if is_good { ExitCode::SUCCESS } else { ExitCode::from(BAD_CONFIG) }
}

/// The configuration, or the code with which to end after its problems were told.
fn loaded(file: &Path) -> Result<Checked, ExitCode> {
    config::load(file).map_err(|problems| {
        let colour = |warning| if warning { AnsiColor::Yellow } else { AnsiColor::Red };
        problems.iter().for_each(|problem| complain_styled(&problem.styled(colour(problem.is_warning()))));
        ExitCode::from(BAD_CONFIG)
    })
}

fn print_config(file: &Path) -> ExitCode {
    match loaded(file) {
        Ok(checked) => {
            say(config::effective::yaml(&checked.settings.file, &checked.written).trim_end());
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}

fn explain(file: &Path, args: &ExplainArgs) -> ExitCode {
    let checked = match loaded(file) {
        Ok(checked) => checked,
        Err(code) => return code,
    };
    let claims = args.claims.as_ref().map(|file| {
        let text = match file.as_os_str() == "-" {
            true => std::io::read_to_string(std::io::stdin()),
            false => std::fs::read_to_string(file),
        };
        let text = text.map_err(|e| format!("{}: {e}", file.display()))?;
        serde_json::from_str(&text).map_err(|e| format!("{}: is no JSON object: {e}", file.display()))
    });
    let (method, url, headers) = (args.method.clone(), args.url.clone(), args.headers.clone());
    let told = claims.transpose().and_then(|claims| {
        explain::explain(checked.settings, &Question { method, url, headers, peer: args.peer, claims })
    });
    match told {
        Ok(told) => {
            match args.format {
                Form::Json => say(&told.json.to_string()),
                Form::Text => say_styled(&highlighted(&told.text, told.is_refused)),
            }
            if told.is_refused { ExitCode::from(REFUSED) } else { ExitCode::SUCCESS }
        }
        Err(problem) => {
            complain(&problem);
            ExitCode::from(BAD_CONFIG)
        }
    }
}

fn import_oauth2_proxy(files: Vec<PathBuf>) -> ExitCode {
    let read = |file: PathBuf| match std::fs::read_to_string(&file) {
        Ok(text) => Ok((file, text)),
        Err(problem) => Err(vec![format!("{}: {problem}", file.display())]),
    };
    let files = files.into_iter().map(read).collect::<Result<Vec<_>, _>>();
    match files.and_then(|files| config::import::of_oauth2_proxy(&files)) {
        Ok(imported) => {
            say(imported.yaml.trim_end());
            imported.notes.iter().for_each(|note| complain(note));
            ExitCode::SUCCESS
        }
        Err(problems) => {
            problems.iter().for_each(|problem| complain(problem));
            ExitCode::from(BAD_CONFIG)
        }
    }
}

fn run(file: PathBuf, args: RunArgs) -> ExitCode {
    match loaded(&file) {
        Ok(checked) => start(Invocation { config: file, upgrade: args.upgrade }, checked),
        Err(code) => code,
    }
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

/// The same with colours where it is a terminal.
fn say_styled(text: &str) {
    let _ = writeln!(anstream::stdout(), "{text}");
}

fn complain_styled(text: &str) {
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// What each line is about in bold, the answer in colour.
fn highlighted(text: &str, is_refused: bool) -> String {
    let answer = if is_refused { AnsiColor::Red } else { AnsiColor::Green }.on_default().bold();
    let line = |line: &str| match line.split_once(": ") {
        Some((label @ "answer", rest)) => format!("{label}: {answer}{rest}{answer:#}"),
        Some((label, rest)) => {
            let bold = Style::new().bold();
            format!("{bold}{label}{bold:#}: {rest}")
        }
        None => line.to_owned(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
