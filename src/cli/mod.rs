//! The command line: what `handsup` does with which words. Each command is short; the demo has its own file.
#![allow(clippy::print_stdout)] // Printing is what a command line is for.

mod demo;
mod demo_bots;

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    app::{Node, Settings, SettingsError, StartError},
    domain::UserId,
    http::{Keys, NewToken},
    store::{Copied, CopyError, DatabaseUrl, Store, copy},
    time_source::{SystemTime, TimeSource},
};

/// Live auctions: bids, and alarms that are never lost, doubled or late.
#[derive(Parser)]
#[command(name = "handsup", version)]
struct Cli {
    /// Settings that go over config/default.toml and config/local.toml
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Migrate the database and serve (also with no command)
    Serve,
    /// Serve a fresh throw-away database with users, goods, likes and bot bidders, and print what a user hears
    Demo,
    /// Bring the database's schema up to date
    Migrate,
    /// Copy a whole database into an empty one, on whichever engines; neither may be in use
    Copy {
        /// `sqlite://PATH` or `postgres://…`
        #[arg(long, value_name = "URL")]
        from: String,
        /// The same; refused unless it is empty
        #[arg(long, value_name = "URL")]
        to: String,
    },
    /// Print an access token
    Token(TokenArgs),
    /// Print the settings in force, secrets masked
    Config,
}

#[derive(Args)]
struct TokenArgs {
    /// Whose
    #[arg(long, value_name = "N")]
    user_id: i64,
    /// His name
    #[arg(long, value_name = "NAME")]
    username: String,
    /// How long it holds
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400, value_parser = clap::value_parser!(i64).range(1..=315_360_000))]
    ttl: i64,
    /// Open the admin calls
    #[arg(long)]
    admin: bool,
}

/// Runs the command line. Errors are one line on stderr and exit code 1 (2 for words that are none).
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info,actix_server=warn")).init();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("handsup: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error("{0}")]
    Settings(#[from] SettingsError),
    #[error("{0}")]
    Start(#[from] StartError),
    #[error("database.url: {0}")]
    Store(#[from] crate::store::StoreError),
    #[error("{0}: {1}")]
    Url(&'static str, String),
    #[error("{0}")]
    Copy(#[from] CopyError),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("--user-id: a whole number from 1")]
    UserId,
    #[error("{0}")]
    Mint(#[from] crate::http::MintError),
    #[error("the demo failed: {0}")]
    Demo(String),
}

fn run(cli: Cli) -> Result<(), CommandError> {
    if matches!(cli.command, Some(Command::Demo)) {
        // The demo needs nothing, so no setting of this place may get in its way.
        return actix::System::new().block_on(demo::run());
    }
    if let Some(Command::Copy { from, to }) = &cli.command {
        return copy_database(from, to);
    }
    let settings = Settings::load(cli.config.as_deref())?;
    match cli.command {
        None | Some(Command::Serve) => actix::System::new().block_on(serve(&settings)),
        Some(Command::Demo) => Ok(()),
        Some(Command::Migrate) => {
            let url = settings.database()?;
            Store::open(&url, 1)?;
            println!("{url} is up to date");
            Ok(())
        }
        Some(Command::Copy { .. }) => Ok(()),
        Some(Command::Token(args)) => token(&settings, args),
        Some(Command::Config) => {
            print!("{}", settings.show());
            Ok(())
        }
    }
}

/// Says what was copied, table by table.
fn copy_database(from: &str, to: &str) -> Result<(), CommandError> {
    let url = |name, text: &str| DatabaseUrl::parse(text).map_err(|error| CommandError::Url(name, error));
    for Copied { table, rows } in copy(&url("--from", from)?, &url("--to", to)?)? {
        println!("{rows:>12} {table}");
    }
    println!("copied, and counted on both sides");
    Ok(())
}

fn token(settings: &Settings, args: TokenArgs) -> Result<(), CommandError> {
    let user = UserId::new(args.user_id).ok_or(CommandError::UserId)?;
    let keys = Keys::new(settings.jwt_secret()?, None);
    let new = NewToken { user, username: Some(args.username), ttl_s: args.ttl, admin: args.admin };
    println!("{}", keys.mint(&new, SystemTime.now())?);
    Ok(())
}

async fn serve(settings: &Settings) -> Result<(), CommandError> {
    // Heard from the first moment on: a signal that comes while the node starts is not lost.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut node = Node::start(settings, Arc::new(SystemTime))?;
    if settings.auth.jwt_secret.is_none() {
        log::warn!("auth.insecure_dev_secret is on: anybody can make tokens for this server");
    }
    announce(&node);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = node.failed() => return Err(CommandError::Io(std::io::Error::other("the server has ended"))),
    }
    log::info!("ending: no new bids, sockets are told when to come back");
    node.stop().await;
    log::info!("ended");
    Ok(())
}

/// The line that says where the node listens.
fn announce(node: &Node) {
    for address in &node.addresses {
        println!("listening on http://{address}");
    }
}
