//! The settings: where they come from, which values are allowed, and how they are shown. An invalid one stops the start
//! with one line that names its key.

use std::{
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

use chrono_tz::Tz;
use config::{
    Config, ConfigBuilder, Environment, File, FileFormat, FileSourceFile, Value, ValueKind, builder::DefaultState,
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use url::Url;

use super::{
    auth_settings::Auth,
    log_line::LogFormat,
    logging::LogRules,
    settings_error::{SettingsError, invalid},
};
use crate::{
    actors::SessionLimits,
    bus::BusUrl,
    domain::{DraftRules, Locale, MAX_ID, Price},
    http::{HttpConfig, Rates},
    protocol::LONGEST_FRAME_BYTES,
    store::{DatabaseUrl, MASK},
};

/// The built-in defaults, in TOML.
pub(super) const DEFAULTS: &str = include_str!("../../config/default.toml");

/// All settings, by section (`docs/protocol.md#settings`).
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub server: Server,
    pub database: Database,
    #[serde(default)]
    pub bus: Bus,
    pub auth: Auth,
    pub auction: Auction,
    pub session: Session,
    pub limits: Limits,
    pub alarms: Alarms,
    pub log: Log,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    pub bind: String,
    pub workers: Option<usize>,
    #[serde(deserialize_with = "list")]
    pub allowed_origins: Vec<String>,
    #[serde(deserialize_with = "list")]
    pub trusted_proxies: Vec<String>,
    pub keep_alive_s: u64,
    pub pages: bool,
    pub media_dir: Option<String>,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    #[serde(serialize_with = "database_without_password")]
    pub url: SecretString,
    pub pool: u32,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Bus {
    #[serde(serialize_with = "bus_without_password", skip_serializing_if = "Option::is_none")]
    pub url: Option<SecretString>,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Auction {
    pub duration_s: i64,
    pub soft_close_s: i64,
    pub close_grace_ms: i64,
    pub time_zone: String,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    pub heartbeat_s: u64,
    pub timeout_s: u64,
    pub max_pending: usize,
    pub max_pending_bytes: usize,
    pub max_per_user: usize,
    pub max: usize,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    pub bids_per_second: u32,
    pub lines_per_second: u32,
    pub requests_per_second: u32,
    pub body_bytes: usize,
    pub connections_per_address: usize,
    pub frame_bytes: usize,
    pub max_price: i64,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Alarms {
    pub locale: Locale,
    pub keep_days: u32,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    pub level: String,
    pub format: LogFormat,
    pub access: bool,
}

fn database_without_password<S: Serializer>(url: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    let shown = DatabaseUrl::parse(url.expose_secret()).map_or_else(|_| MASK.to_owned(), |url| url.to_string());
    shown.serialize(serializer)
}

fn bus_without_password<S: Serializer>(url: &Option<SecretString>, serializer: S) -> Result<S::Ok, S::Error> {
    let shown =
        |url: &SecretString| BusUrl::parse(url.expose_secret()).map_or_else(|_| MASK.to_owned(), |url| url.to_string());
    url.as_ref().map(shown).serialize(serializer)
}

/// Reads a list, or its items in one text, separated by commas, as the environment has them.
fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum List {
        Items(Vec<String>),
        Joined(String),
    }
    Ok(match List::deserialize(deserializer)? {
        List::Items(items) => items,
        List::Joined(joined) => joined.split(',').map(str::trim).map(str::to_owned).collect(),
    })
}

impl Settings {
    /// Reads the settings. Each source overrides those before it: the built-in defaults, `config/default.toml` and
    /// `config/local.toml` if they exist, `file` if one is given, the environment.
    ///
    /// # Errors
    /// A source can't be read, or a key is unknown or has an invalid value. The error names the first one.
    pub fn load(file: Option<&Path>) -> Result<Self, SettingsError> {
        let mut sources = Config::builder().add_source(File::from_str(DEFAULTS, FileFormat::Toml));
        for path in ["config/default.toml", "config/local.toml"].map(Path::new) {
            if exists(path) {
                sources = sources.add_source(file_source(path)?);
            }
        }
        if let Some(path) = file {
            sources = sources.add_source(file_source(path)?);
        }
        // The type of the field decides how a value is read: a secret of digits must not become a number.
        let environment = Environment::with_prefix("HANDSUP").prefix_separator("__").separator("__");
        let settings = Self::read(sources.add_source(environment))?;
        settings.check()?;
        Ok(settings)
    }

    /// The built-in defaults, without any file or the environment. Tests and the demo start from them.
    ///
    /// # Errors
    /// Only if `config/default.toml` was broken when the program was built.
    pub fn defaults() -> Result<Self, SettingsError> {
        Self::read(Config::builder().add_source(File::from_str(DEFAULTS, FileFormat::Toml)))
    }

    fn read(sources: ConfigBuilder<DefaultState>) -> Result<Self, SettingsError> {
        let config = sources.build().map_err(|error| invalid("settings", without_quotes(&error)))?;
        refuse_empty("", &config.cache)?;
        serde_path_to_error::deserialize(config)
            .map_err(|error| invalid(&error.path().to_string(), one_line(error.inner())))
    }

    /// Checks every value.
    pub fn check(&self) -> Result<(), SettingsError> {
        self.bind()?;
        self.trusted_proxies()?;
        self.origins()?;
        self.database()?;
        self.bus()?;
        self.time_zone()?;
        self.log_rules()?;
        let range = |key: &str, value: i128, min: i128, max: i128| {
            if (min..=max).contains(&value) {
                Ok(())
            } else {
                Err(invalid(key, format!("{value} is out of range, must be {min} to {max}")))
            }
        };
        range("server.workers", self.server.workers.unwrap_or(1) as i128, 1, 1024)?;
        range("server.keep_alive_s", self.server.keep_alive_s.into(), 1, 3600)?;
        range("database.pool", self.database.pool.into(), 1, 1024)?;
        range("auction.duration_s", self.auction.duration_s.into(), 1, 2_592_000)?;
        range("auction.soft_close_s", self.auction.soft_close_s.into(), 0, 86_400)?;
        range("auction.close_grace_ms", self.auction.close_grace_ms.into(), 0, 60_000)?;
        range("session.heartbeat_s", self.session.heartbeat_s.into(), 1, 3600)?;
        range("session.timeout_s", self.session.timeout_s.into(), 1, 86_400)?;
        range("session.max_pending", self.session.max_pending as i128, 1, 1_000_000)?;
        range("session.max_pending_bytes", self.session.max_pending_bytes as i128, 1024, 1 << 30)?;
        range("session.max_per_user", self.session.max_per_user as i128, 1, 1_000_000)?;
        range("session.max", self.session.max as i128, 1, 10_000_000)?;
        range("limits.bids_per_second", self.limits.bids_per_second.into(), 1, 1_000_000)?;
        range("limits.lines_per_second", self.limits.lines_per_second.into(), 1, 1_000_000)?;
        range("limits.requests_per_second", self.limits.requests_per_second.into(), 1, 1_000_000)?;
        range("limits.connections_per_address", self.limits.connections_per_address as i128, 1, 10_000_000)?;
        range("limits.body_bytes", self.limits.body_bytes as i128, 256, 1 << 30)?;
        range("limits.frame_bytes", self.limits.frame_bytes as i128, LONGEST_FRAME_BYTES as i128, 1 << 30)?;
        range("limits.max_price", self.limits.max_price.into(), 1, MAX_ID.into())?;
        range("alarms.keep_days", self.alarms.keep_days.into(), 1, 36_500)?;
        self.check_pairs()
    }

    /// Checks values that are valid each by itself but contradict each other. Unusual combinations are allowed.
    fn check_pairs(&self) -> Result<(), SettingsError> {
        let Session { heartbeat_s, timeout_s, max_pending_bytes, .. } = self.session;
        if timeout_s <= heartbeat_s {
            let right = format!("must be above session.heartbeat_s ({heartbeat_s}): healthy sessions would time out");
            return Err(invalid("session.timeout_s", format!("{timeout_s} {right}")));
        }
        let frame_bytes = self.limits.frame_bytes;
        if max_pending_bytes < frame_bytes {
            let right = "one frame would close every session that gets it";
            let problem = format!("{max_pending_bytes} must be at least limits.frame_bytes ({frame_bytes}): {right}");
            return Err(invalid("session.max_pending_bytes", problem));
        }
        self.auth.check()
    }

    /// Checks what `serve` needs beyond [`check`](Self::check): a safe secret, a safe folder of pictures, and a dev
    /// login only where no other machine can reach it.
    pub fn check_serve(&self) -> Result<(), SettingsError> {
        self.auth.check_secrets()?;
        self.check_media_dir()?;
        if self.auth.dev_login && !self.bind()?.iter().all(|address| address.ip().is_loopback()) {
            return Err(invalid("auth.dev_login", "only allowed when server.bind is a loopback address"));
        }
        Ok(())
    }

    /// Every file in the folder of pictures is served to everybody, so neither the database nor the settings may be in
    /// it.
    fn check_media_dir(&self) -> Result<(), SettingsError> {
        let Some(folder) = self.media_dir()? else { return Ok(()) };
        let url = self.database()?;
        let files = [("database.url", url.file()), ("config/local.toml", Some(Path::new("config/local.toml")))];
        match files.iter().find(|(_, file)| file.is_some_and(|file| is_below(file, &folder))) {
            Some((name, _)) => {
                let problem = format!("{name} is in this folder and would be served to everybody");
                Err(invalid("server.media_dir", problem))
            }
            None => Ok(()),
        }
    }

    /// The addresses to listen on. A host name may have several.
    pub fn bind(&self) -> Result<Vec<SocketAddr>, SettingsError> {
        let found = self.server.bind.to_socket_addrs();
        let addresses: Vec<_> = found.map_err(|_| invalid("server.bind", "must be ADDRESS:PORT"))?.collect();
        if addresses.is_empty() { Err(invalid("server.bind", "has no address")) } else { Ok(addresses) }
    }

    /// The number of workers: `server.workers`, or one for each core.
    pub fn workers(&self) -> usize {
        self.server.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get))
    }

    /// The folder of pictures, with symbolic links resolved; `None` if there is none.
    pub fn media_dir(&self) -> Result<Option<PathBuf>, SettingsError> {
        let Some(text) = &self.server.media_dir else { return Ok(None) };
        match Path::new(text).canonicalize() {
            Ok(folder) if folder.is_dir() => Ok(Some(folder)),
            _ => Err(invalid("server.media_dir", format!("{text:?} is not an existing folder"))),
        }
    }

    /// The database's address.
    pub fn database(&self) -> Result<DatabaseUrl, SettingsError> {
        let url = DatabaseUrl::parse(self.database.url.expose_secret());
        url.map_err(|problem| invalid("database.url", problem.to_string()))
    }

    /// The bus's address; `None` if this is the only node.
    ///
    /// # Errors
    /// `bus.url` is invalid, or the database is a file, which nodes can't share.
    pub fn bus(&self) -> Result<Option<BusUrl>, SettingsError> {
        let Some(url) = &self.bus.url else { return Ok(None) };
        let url = BusUrl::parse(url.expose_secret()).map_err(|error| invalid("bus.url", error.to_string()))?;
        if self.database()?.engine() == "sqlite" {
            return Err(invalid("bus.url", "needs a database that nodes can share: set database.url to postgres://…"));
        }
        Ok(Some(url))
    }

    /// The allowed rates of bids, lines and requests.
    pub fn rates(&self) -> Rates {
        let rate = |value| NonZeroU32::new(value).unwrap_or(NonZeroU32::MIN);
        Rates {
            bids: rate(self.limits.bids_per_second),
            lines: rate(self.limits.lines_per_second),
            requests: rate(self.limits.requests_per_second),
        }
    }

    /// The part of the settings that the HTTP handlers need.
    pub fn http(&self) -> Result<HttpConfig, SettingsError> {
        Ok(HttpConfig {
            trusted_proxies: self.trusted_proxies()?,
            media_dir: self.media_dir()?,
            pages: self.server.pages,
            body_bytes: self.limits.body_bytes,
            max_price: Price::from_stored(self.limits.max_price),
            dev_login: self.auth.dev_login,
            max_sessions: self.session.max,
            draft: DraftRules { time_zone: self.time_zone()?, duration_s: self.auction.duration_s },
            session: SessionLimits {
                heartbeat: Duration::from_secs(self.session.heartbeat_s),
                timeout: Duration::from_secs(self.session.timeout_s),
                max_pending: self.session.max_pending,
                max_pending_bytes: self.session.max_pending_bytes,
                frame_bytes: self.limits.frame_bytes,
            },
        })
    }

    /// Which records the log has, and in which format. `RUST_LOG` overrides `log.level`.
    pub fn log_rules(&self) -> Result<LogRules, SettingsError> {
        // `env_logger` takes a mistyped level for the name of a target, and would log nothing else.
        let is_level = |part: &str| part.contains(['=', '/']) || part.trim().parse::<log::LevelFilter>().is_ok();
        if !self.log.level.split(',').all(is_level) {
            let right = "must be off, error, warn, info, debug, trace, or TARGET=LEVEL";
            return Err(invalid("log.level", format!("{right}, not {:?}", self.log.level)));
        }
        match std::env::var("RUST_LOG") {
            Ok(level) if !level.is_empty() => LogRules::new("RUST_LOG", &level, self.log.format, self.log.access),
            _ => LogRules::new("log.level", &self.log.level, self.log.format, self.log.access),
        }
    }

    /// The settings in force as TOML, secrets masked.
    pub fn show(&self) -> String {
        toml::to_string(self).unwrap_or_else(|error| format!("# {error}\n"))
    }

    fn time_zone(&self) -> Result<Tz, SettingsError> {
        let name = &self.auction.time_zone;
        name.parse()
            .map_err(|_| invalid("auction.time_zone", format!("must be a time zone such as Asia/Seoul, not {name:?}")))
    }

    /// The allowed origins as browsers write them: scheme and host in lower case, without the scheme's default port.
    pub(super) fn origins(&self) -> Result<Vec<String>, SettingsError> {
        let parse = |text: &String| {
            let url = Url::parse(text).ok().filter(|url| {
                let is_web = matches!(url.scheme(), "http" | "https") && url.has_host();
                let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
                is_web && is_bare && url.username().is_empty() && url.password().is_none()
            });
            let origin = url.map(|url| url.origin().ascii_serialization());
            origin.ok_or_else(|| {
                invalid("server.allowed_origins", format!("must hold https://HOST or https://HOST:PORT, not {text:?}"))
            })
        };
        self.server.allowed_origins.iter().map(parse).collect()
    }

    pub(super) fn trusted_proxies(&self) -> Result<Vec<IpAddr>, SettingsError> {
        let parse = |text: &String| match text.parse::<IpAddr>() {
            Ok(address) => Ok(address.to_canonical()),
            Err(_) => Err(invalid("server.trusted_proxies", format!("must hold IP addresses, not {text:?}"))),
        };
        self.server.trusted_proxies.iter().map(parse).collect()
    }
}

/// Whether a file is below a folder, or would be if it existed. The folder's symbolic links must be resolved.
fn is_below(file: &Path, folder: &Path) -> bool {
    let Ok(file) = std::path::absolute(file) else { return false };
    let existing = file.ancestors().find_map(|part| part.canonicalize().ok());
    existing.is_some_and(|existing| existing.starts_with(folder))
}

/// Whether there is a file of this name. A broken link counts, so that reading it fails: its settings must not be left
/// out silently.
fn exists(path: &Path) -> bool {
    let is_missing = |error: io::Error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
    !path.symlink_metadata().is_err_and(is_missing)
}

/// A file as a source of settings, once it is certain that it can be read. `config` would skip it silently.
fn file_source(path: &Path) -> Result<File<FileSourceFile, FileFormat>, SettingsError> {
    let name = path.to_string_lossy();
    match std::fs::read_to_string(path) {
        Ok(_) => Ok(File::new(&name, FileFormat::Toml)),
        Err(error) => Err(invalid(&name, format!("can't be read: {error}"))),
    }
}

/// Refuses empty texts: somebody has forgotten the value, and must not get the default instead.
fn refuse_empty(key: &str, value: &Value) -> Result<(), SettingsError> {
    let empty = || Err(invalid(key, "is empty: give it a value, or leave it out"));
    match &value.kind {
        ValueKind::String(text) if text.trim().is_empty() => empty(),
        ValueKind::Array(items) => items.iter().try_for_each(|item| refuse_empty(key, item)),
        ValueKind::Table(table) => table.iter().try_for_each(|(name, value)| {
            let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
            refuse_empty(&key, value)
        }),
        _ => Ok(()),
    }
}

/// The error of a TOML parser without the lines of the file that it quotes, which may hold a secret.
fn without_quotes(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    let is_quote =
        |line: &&str| line.trim_start().trim_start_matches(|c: char| c.is_ascii_digit()).trim_start().starts_with('|');
    one_line(&text.lines().filter(|line| !is_quote(line)).collect::<Vec<_>>().join(" "))
}

fn one_line(error: &impl std::fmt::Display) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
