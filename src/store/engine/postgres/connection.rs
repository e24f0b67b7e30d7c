//! PostgreSQL connections: how a server is reached and locked, how connections are configured, and how several writers
//! stay in order.

use diesel::{
    connection::SimpleConnection,
    prelude::*,
    sql_query,
    sql_types::{Array, BigInt},
};
use diesel_migrations::{EmbeddedMigrations, embed_migrations};
use url::Url;

use crate::domain::{AlarmId, UserId};
use crate::store::{
    DatabaseUrlError, StoreError,
    engine::sharing::Sharing,
    schema_version::{self, Migrated},
};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/postgres");

/// Begins a write transaction. Every writer first locks the counters' row, and holds it until its commit. So ids rise
/// in commit order across all nodes, and no two writers judge bids on the same goods at once. Group commit makes that
/// cheap.
///
/// Behind other writers PostgreSQL waits twice, first for the turn to lock the row and then for the transaction that
/// holds it, each for up to `lock_timeout`. The `statement_timeout` limits both together to 1 s, so that the bids of
/// the batch still get their 503 in time.
pub(crate) const BEGIN: &str = "BEGIN; SET LOCAL statement_timeout = '1000ms'; SELECT one FROM id_counters FOR UPDATE; \
     SET LOCAL statement_timeout = '2000ms'";
/// Nodes that start together take this lock to migrate one after another.
const MIGRATION_LOCK: &str = "SELECT pg_advisory_lock(42424242)";
const MIGRATION_UNLOCK: &str = "SELECT pg_advisory_unlock(42424242)";
/// Settings of a writer's connection. The server ends the transaction of a writer that hangs after 2 s, so that other
/// writers get the counters' row within the 3 s that a client waits for its 503. `synchronous_commit`: an answered bid
/// is on disk, whatever the server's default is.
///
/// `force_generic_plan`: a prepared statement is planned once. Otherwise the planner would often plan for the values at
/// hand, which took a third of a small transaction's time on the server. So no statement of a writer may need a plan
/// for its values: it finds rows by their keys, or by equality and order on one index. The one that does need it has
/// the values in its text (`writes/fan_out.rs`).
const WRITER_SETTINGS: &str = "SET lock_timeout = '1000ms'; SET statement_timeout = '2000ms'; \
     SET idle_in_transaction_session_timeout = '2000ms'; SET synchronous_commit = on; \
     SET default_transaction_isolation = 'read committed'; SET default_transaction_read_only = off; \
     SET plan_cache_mode = force_generic_plan; SET client_min_messages = warning";
/// Keepalive settings with which the server soon notices that a node's machine is gone, and releases its locks.
const KEEPALIVE_SETTINGS: &str = "SET tcp_keepalives_idle = 2; SET tcp_keepalives_interval = 1; \
     SET tcp_keepalives_count = 2; SET client_min_messages = warning";
/// Settings of a reader's connection: all statements of a transaction see the same moment, and none can write.
const READER_SETTINGS: &str = "SET default_transaction_read_only = on; \
     SET default_transaction_isolation = 'repeatable read'; SET statement_timeout = '1000ms'; \
     SET client_min_messages = warning";
/// How long a starting node waits for the lock of the node that it replaces.
const NODE_LOCK_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(6);

/// The lock of a single node: it excludes all others, because nodes without a bus would not learn of each other's
/// alarms.
const EXCLUSIVE_LOCK: &str = "SELECT pg_try_advisory_lock(42424243) AS taken";
/// The lock of a cluster's node: it excludes only nodes without a bus.
const SHARED_LOCK: &str = "SELECT pg_try_advisory_lock_shared(42424243) AS taken";

#[derive(QueryableByName)]
struct LockRow {
    #[diesel(sql_type = diesel::sql_types::Bool)]
    taken: bool,
}

/// The lock on the database of a single node, or of a cluster's nodes together. It is held until this is dropped, the
/// process ends (also by `kill -9`) or the server restarts. It guards against an operator's mistake; the verdicts on
/// bids do not depend on it.
pub(crate) struct NodeLock(#[allow(dead_code)] std::sync::Mutex<PgConnection>); // Keeps the connection open.

/// Shown in place of a password or a key.
pub(crate) const MASK: &str = "********";

/// The URL of a server, for libpq and to be shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Server {
    url: String,
    shown: String,
}

impl Server {
    /// Parses the URL and adds the timeouts that it does not set, so that no connection waits for ever.
    pub(crate) fn parse(url: &str) -> Result<Self, DatabaseUrlError> {
        // Checked here because libpq's error text would cite the password.
        if !escapes_are_whole(url) {
            return Err(DatabaseUrlError::Escape);
        }
        let mut url = Url::parse(url)?;
        // What looks like a path may be the rest of a password that contains a slash.
        if url.path().contains('@') {
            return Err(DatabaseUrlError::AtInPath);
        }
        let shown = without_passwords(&url);
        let given: Vec<String> = url.query_pairs().map(|(name, _)| name.into_owned()).collect();
        if !cfg!(feature = "postgres-tls")
            && url.query_pairs().any(|(name, value)| {
                name == "sslmode" && ["require", "verify-ca", "verify-full"].contains(&value.as_ref())
            })
        {
            return Err(DatabaseUrlError::NoTls);
        }
        for (name, value) in [
            ("connect_timeout", "2"),
            ("tcp_user_timeout", "2500"),
            ("keepalives_idle", "5"),
            ("keepalives_interval", "2"),
            ("keepalives_count", "2"),
            ("application_name", "handsup"),
        ] {
            if !given.iter().any(|given| given == name) {
                url.query_pairs_mut().append_pair(name, value);
            }
        }
        Ok(Self { url: url.into(), shown })
    }

    /// The URL without passwords.
    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    fn connect(&self) -> Result<PgConnection, StoreError> {
        PgConnection::establish(&self.url).map_err(|error| StoreError::Unavailable(one_line(&error.to_string())))
    }

    /// Locks the database for this process or for its cluster. Waits for up to 6 s.
    pub(crate) fn lock(&self, sharing: Sharing) -> Result<NodeLock, StoreError> {
        let mut conn = self.connect()?;
        // Fails over a Unix socket, which needs no keepalive.
        let _ = conn.batch_execute(KEEPALIVE_SETTINGS);
        let deadline = std::time::Instant::now() + NODE_LOCK_TIMEOUT;
        let lock = match sharing {
            Sharing::Exclusive => EXCLUSIVE_LOCK,
            Sharing::Shared => SHARED_LOCK,
        };
        // Retried because the server still holds the lock of a node that was just killed for a moment.
        while !sql_query(lock).get_result::<LockRow>(&mut conn)?.taken {
            if std::time::Instant::now() > deadline {
                let error = match sharing {
                    Sharing::Exclusive => "the database is in use by another process",
                    Sharing::Shared => "the database is in use by a process without bus.url",
                };
                return Err(StoreError::Unavailable(error.to_owned()));
            }
            std::thread::sleep(NODE_LOCK_TIMEOUT / 60);
        }
        Ok(NodeLock(std::sync::Mutex::new(conn)))
    }

    pub(crate) fn connect_writer(&self) -> Result<PgConnection, StoreError> {
        let mut conn = self.connect()?;
        let _ = conn.batch_execute(KEEPALIVE_SETTINGS);
        conn.batch_execute(WRITER_SETTINGS)?;
        Ok(conn)
    }

    pub(crate) fn connect_reader(&self) -> Result<PgConnection, diesel::r2d2::Error> {
        let mut conn = PgConnection::establish(&self.url).map_err(diesel::r2d2::Error::ConnectionError)?;
        conn.batch_execute(READER_SETTINGS).map_err(diesel::r2d2::Error::QueryError)?;
        Ok(conn)
    }
}

/// Joins the lines of an error text: libpq reports a failed connection in several.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn escapes_are_whole(url: &str) -> bool {
    url.split('%').skip(1).all(|escape| {
        let digits = escape.as_bytes().get(..2).unwrap_or_default();
        digits.len() == 2 && digits.iter().all(u8::is_ascii_hexdigit) && digits != b"00"
    })
}

/// The URL with its passwords masked, before the host and among the parameters.
fn without_passwords(url: &Url) -> String {
    let mut url = url.clone();
    if url.password().is_some() && url.set_password(Some(MASK)).is_err() {
        return format!("{}://{MASK}", url.scheme());
    }
    let is_secret = |name: &str| name.contains("password") || name.contains("secret");
    if url.query_pairs().any(|(name, _)| is_secret(&name)) {
        let shown: Vec<(String, String)> = url
            .query_pairs()
            .map(|(name, value)| {
                let value = if is_secret(&name) { MASK.into() } else { value };
                (name.into_owned(), value.into_owned())
            })
            .collect();
        url.query_pairs_mut().clear().extend_pairs(shown);
    }
    url.into()
}

/// Whether the schema is up to date.
pub(crate) fn is_migrated(conn: &mut PgConnection) -> Result<bool, StoreError> {
    schema_version::is_migrated(conn, MIGRATIONS)
}

/// Migrates the schema, one node at a time.
pub(crate) fn migrate(conn: &mut PgConnection) -> Result<Migrated, StoreError> {
    // No timeouts: another node's migrations, for which this waits, may take long.
    conn.batch_execute("SET lock_timeout = 0; SET statement_timeout = 0")?;
    conn.batch_execute(MIGRATION_LOCK)?;
    let done = schema_version::migrate(conn, MIGRATIONS);
    conn.batch_execute(MIGRATION_UNLOCK)?;
    done
}

/// Raises the received cursors of these users; a cursor never goes back.
pub(crate) fn raise_received(conn: &mut PgConnection, cursors: &[(UserId, AlarmId)]) -> QueryResult<()> {
    let (users, ids): (Vec<i64>, Vec<i64>) = cursors.iter().map(|(user, up_to)| (user.get(), up_to.get())).unzip();
    sql_query(
        "UPDATE users SET received_up_to = new.up_to FROM unnest($1, $2) AS new (id, up_to) \
         WHERE users.id = new.id AND users.received_up_to < new.up_to",
    )
    .bind::<Array<BigInt>, _>(users)
    .bind::<Array<BigInt>, _>(ids)
    .execute(conn)?;
    Ok(())
}
