//! The command line: the commands of `handsup` and their arguments. `serve` and the demo have files of their own.

#[cfg(feature = "demo")]
mod demo;
#[cfg(feature = "demo")]
mod demo_bots;
mod serve;

use std::{
    fmt::Display,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use crate::{
    app::{Logging, Settings, SettingsError, StartError},
    domain::UserId,
    http::NewToken,
    store::{BackupError, CopiedTable, CopyError, DatabaseUrl, DatabaseUrlError, Store, backup, copy},
    time_source::{SystemTime, TimeSource},
};
use clap::{Args, CommandFactory, Parser, Subcommand};

/// At the end of `--help` and of the manual page.
const SETTINGS_HELP: &str = "Settings come from config/default.toml (built in), then config/local.toml, then --config FILE, \
then the environment: section.key is HANDSUP__SECTION__KEY. SIGHUP reads them again.";

/// Live auctions: bids, and alarms that are never lost, doubled or late.
#[derive(Parser)]
#[command(name = "handsup", version, after_help = SETTINGS_HELP)]
struct Cli {
    /// Settings that override config/default.toml and config/local.toml
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Migrate the database and serve (the default command)
    Serve,
    /// Serve a temporary database with users, goods, likes and bidding bots, and print the alarms that two users get
    #[cfg(feature = "demo")]
    Demo,
    /// Bring the database's schema up to date
    Migrate,
    /// Copy a whole database into an empty one, of the same or the other engine; neither may be in use
    Copy {
        /// `sqlite://PATH` or `postgres://…`
        #[arg(long, value_name = "URL")]
        from: String,
        /// `sqlite://PATH` or `postgres://…`; refused unless it is empty
        #[arg(long, value_name = "URL")]
        to: String,
    },
    /// Write a backup of an SQLite database into a new file, even while it is served
    Backup {
        /// `sqlite://PATH`
        #[arg(long, value_name = "URL")]
        from: String,
        /// The new file; refused if it exists
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
    /// Print an access token
    Token(TokenArgs),
    /// Print the settings in force, secrets masked
    Config,
    /// Write the manual pages, one for each command
    Man {
        /// A folder that exists
        #[arg(long, value_name = "FOLDER")]
        to: PathBuf,
    },
}

#[derive(Args)]
struct TokenArgs {
    /// The user's id, from 1
    #[arg(long, value_name = "N")]
    user_id: i64,
    /// The user's name
    #[arg(long, value_name = "NAME")]
    username: String,
    /// How long the token is valid
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400, value_parser = clap::value_parser!(i64).range(1..=315_360_000))]
    ttl: i64,
    /// Allow the admin endpoints
    #[arg(long)]
    admin: bool,
}

/// Runs the command line. An error is one line on stderr and exit code 1, or 2 for invalid arguments.
pub fn main() -> ExitCode {
    let done = run(Cli::parse());
    log::logger().flush();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If stderr is closed, the exit code still reports the failure.
            let _ = writeln!(io::stderr(), "handsup: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints the output of a command. The command fails if it can't be printed.
fn print(text: impl Display) -> Result<(), CommandError> {
    let mut stdout = io::stdout();
    write!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(CommandError::Stdout)
}

/// Prints a line. It does not matter if it can't be printed.
fn print_line(line: impl Display) {
    let _ = print(format_args!("{line}\n"));
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("database.url: {0}")]
    Store(#[from] crate::store::StoreError),
    #[error("{0}: {1}")]
    Url(&'static str, DatabaseUrlError),
    #[error(transparent)]
    Copy(#[from] CopyError),
    #[error(transparent)]
    Backup(#[from] BackupError),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("stdout: {0}")]
    Stdout(io::Error),
    #[error("{0}: {1}")]
    Man(String, io::Error),
    #[error("--user-id: must be a whole number from 1")]
    UserId,
    #[error(transparent)]
    Mint(#[from] crate::http::MintError),
    #[cfg(feature = "demo")]
    #[error("the demo failed: {0}")]
    Demo(#[from] demo_bots::DemoError),
}

fn run(cli: Cli) -> Result<(), CommandError> {
    match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => {
            let (settings, logging) = configure(cli.config.as_deref())?;
            actix::System::new().block_on(serve::serve(&settings, cli.config, &logging))
        }
        #[cfg(feature = "demo")]
        Command::Demo => {
            log_by_default()?;
            actix::System::new().block_on(demo::run())
        }
        Command::Migrate => {
            let (settings, _) = configure(cli.config.as_deref())?;
            let url = settings.database()?;
            Store::open(&url, 1)?;
            print(format_args!("{url} is up to date\n"))
        }
        Command::Copy { from, to } => {
            log_by_default()?;
            copy_database(&from, &to)
        }
        Command::Backup { from, to } => {
            let from = DatabaseUrl::parse(&from).map_err(|error| CommandError::Url("--from", error))?;
            let goods = backup(&from, &to)?;
            print(format_args!("{}: {goods} goods, checked\n", to.display()))
        }
        Command::Token(args) => token(&configure(cli.config.as_deref())?.0, args),
        Command::Config => print(configure(cli.config.as_deref())?.0.show()),
        Command::Man { to } => clap_mangen::generate_to(Cli::command(), &to)
            .map_err(|error| CommandError::Man(to.display().to_string(), error)),
    }
}

/// Loads the settings and logs as they say.
fn configure(file: Option<&Path>) -> Result<(Settings, Logging), CommandError> {
    let settings = Settings::load(file)?;
    let logging = Logging::start(&settings.log_rules()?)?;
    Ok((settings, logging))
}

/// For commands that ignore the settings of the current folder and the environment.
fn log_by_default() -> Result<(), CommandError> {
    Logging::start(&Settings::defaults()?.log_rules()?)?;
    Ok(())
}

/// Copies a database, and prints the number of rows of each table.
fn copy_database(from: &str, to: &str) -> Result<(), CommandError> {
    let url = |name, text: &str| DatabaseUrl::parse(text).map_err(|error| CommandError::Url(name, error));
    for CopiedTable { table, rows } in copy(&url("--from", from)?, &url("--to", to)?)? {
        print(format_args!("{rows:>12} {table}\n"))?;
    }
    print("copied, and counted on both sides\n")
}

fn token(settings: &Settings, args: TokenArgs) -> Result<(), CommandError> {
    let user = UserId::new(args.user_id).ok_or(CommandError::UserId)?;
    let keys = settings.auth.signing_keys()?;
    let new = NewToken { user, username: Some(args.username), ttl_s: args.ttl, admin: args.admin };
    print(format_args!("{}\n", keys.mint(&new, SystemTime.now())?))
}
