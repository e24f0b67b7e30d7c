//! What only PostgreSQL knows: how it is reached, and how several writers stay in order. What a batch of bids reads and
//! writes there is in `batch`.

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
    StoreError,
    engine::nodes::Nodes,
    schema_version::{self, Migrated},
};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/postgres");

/// All writers over one database take the counters' row first and hold it to their commit. So ids rise in commit order,
/// whoever takes them, and no two verdicts about the same goods are made at once. Group commit makes that cheap.
///
/// Behind other writers it is waited for twice, first in line for the row and then for its holder, each within
/// `lock_timeout`: together no longer than one of these, or nobody would be left to tell the bids that nothing is stored.
pub(crate) const BEGIN: &str = "BEGIN; SET LOCAL statement_timeout = '1000ms'; SELECT one FROM id_counters FOR UPDATE; \
     SET LOCAL statement_timeout = '2000ms'";
/// Nodes that start together migrate one after another.
const MIGRATION_LOCK: &str = "SELECT pg_advisory_lock(42424242)";
const MIGRATION_UNLOCK: &str = "SELECT pg_advisory_unlock(42424242)";
/// A writer that hangs with the counters' row is let go after two seconds, and nobody waits longer than the 3 s of a
/// 503 allow. An answered bid is on disk, whatever the server's default.
///
/// Prepared statements are planned once: for a few rows the planner finds a plan of their very values better than one for
/// any, and to make it each time took a third of what a small transaction costs the server. So none of a writer's may
/// depend on the values of its parameters: rows are named, or found by an equal and an order of the same index; what needs
/// to be planned by its values has them in its text (`fan_out`).
const WRITER: &str = "SET lock_timeout = '1000ms'; SET statement_timeout = '2000ms'; \
     SET idle_in_transaction_session_timeout = '2000ms'; SET synchronous_commit = on; \
     SET default_transaction_isolation = 'read committed'; SET default_transaction_read_only = off; \
     SET plan_cache_mode = force_generic_plan; SET client_min_messages = warning";
/// A node whose machine is gone without a word is let go by the server too, and its lock with it.
const LET_GO: &str = "SET tcp_keepalives_idle = 2; SET tcp_keepalives_interval = 1; SET tcp_keepalives_count = 2; \
     SET client_min_messages = warning";
/// All parts of a page are of the same moment, and nothing is written past the ledger.
const READER: &str = "SET default_transaction_read_only = on; SET default_transaction_isolation = 'repeatable read'; \
     SET statement_timeout = '1000ms'; SET client_min_messages = warning";
/// How long a node that starts waits for the one before it to be gone.
const LOCK_WAIT: std::time::Duration = std::time::Duration::from_secs(6);

/// Held by the one node of a database without a bus; two would not hear of each other's alarms. Nodes with a bus share it
/// among themselves, and with nobody else.
const ONE_NODE: &str = "SELECT pg_try_advisory_lock(42424243) AS taken";
const ONE_OF_SEVERAL: &str = "SELECT pg_try_advisory_lock_shared(42424243) AS taken";

#[derive(QueryableByName)]
struct Taken {
    #[diesel(sql_type = diesel::sql_types::Bool)]
    taken: bool,
}

/// The database is this process's own, or its and other nodes' with a bus, until this is dropped (also by `kill -9`, or when the server restarts: it guards
/// against a mistake, not against a race; the verdicts themselves don't rest on it).
pub(crate) struct NodeLock(#[allow(dead_code)] std::sync::Mutex<PgConnection>); // Held, not used.

/// What is shown of a password.
const MASK: &str = "********";

/// A server, as libpq reaches it and as it may be shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Server {
    url: String,
    shown: String,
}

impl Server {
    /// Reads the URL, and adds what keeps a connection from waiting for ever where the URL says nothing of it.
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        // Libpq would complain of it too, and cite the password.
        if !escapes_are_whole(url) {
            return Err("a % in a postgres:// URL needs two hex digits behind it (a % itself is %25)".to_owned());
        }
        let mut url = Url::parse(url).map_err(|error| format!("no postgres:// URL: {error}"))?;
        // What looks like a path may be the rest of a password with a slash in it.
        if url.path().contains('@') {
            return Err("an @ behind the host of a postgres:// URL (a / in a password is %2F)".to_owned());
        }
        let shown = without_passwords(&url);
        let said: Vec<String> = url.query_pairs().map(|(name, _)| name.into_owned()).collect();
        if !cfg!(feature = "postgres-tls")
            && url.query_pairs().any(|(name, value)| {
                name == "sslmode" && ["require", "verify-ca", "verify-full"].contains(&value.as_ref())
            })
        {
            return Err("this program is built without TLS to PostgreSQL (feature postgres-tls)".to_owned());
        }
        for (name, value) in [
            ("connect_timeout", "2"),
            ("tcp_user_timeout", "2500"),
            ("keepalives_idle", "5"),
            ("keepalives_interval", "2"),
            ("keepalives_count", "2"),
            ("application_name", "handsup"),
        ] {
            if !said.iter().any(|said| said == name) {
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

    /// Takes the database for this process, or for all nodes with a bus.
    pub(crate) fn lock(&self, nodes: Nodes) -> Result<NodeLock, StoreError> {
        let mut conn = self.connect()?;
        // Over a socket in the file system there is nothing to keep alive.
        let _ = conn.batch_execute(LET_GO);
        let give_up = std::time::Instant::now() + LOCK_WAIT;
        // A node that has just been killed is still on the server's list for a moment.
        let lock = match nodes {
            Nodes::One => ONE_NODE,
            Nodes::Several => ONE_OF_SEVERAL,
        };
        while !sql_query(lock).get_result::<Taken>(&mut conn)?.taken {
            if std::time::Instant::now() > give_up {
                let by = match nodes {
                    Nodes::One => "the database is in use by another process",
                    Nodes::Several => "the database is in use by a process without bus.url",
                };
                return Err(StoreError::Unavailable(by.to_owned()));
            }
            std::thread::sleep(LOCK_WAIT / 60);
        }
        Ok(NodeLock(std::sync::Mutex::new(conn)))
    }

    pub(crate) fn connect_writer(&self) -> Result<PgConnection, StoreError> {
        let mut conn = self.connect()?;
        let _ = conn.batch_execute(LET_GO);
        conn.batch_execute(WRITER)?;
        Ok(conn)
    }

    pub(crate) fn connect_reader(&self) -> Result<PgConnection, diesel::r2d2::Error> {
        let mut conn = PgConnection::establish(&self.url).map_err(diesel::r2d2::Error::ConnectionError)?;
        conn.batch_execute(READER).map_err(diesel::r2d2::Error::QueryError)?;
        Ok(conn)
    }
}

/// Libpq takes several lines to say why it can't connect.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn escapes_are_whole(url: &str) -> bool {
    url.split('%').skip(1).all(|escape| {
        let digits = escape.as_bytes().get(..2).unwrap_or_default();
        digits.len() == 2 && digits.iter().all(u8::is_ascii_hexdigit) && digits != b"00"
    })
}

/// Passwords may stand before the host and among the parameters.
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

/// Brings the schema up to date, one node at a time.
pub(crate) fn migrate(conn: &mut PgConnection) -> Result<Migrated, StoreError> {
    // Whoever waits here waits for another node's migrations, which may take long.
    conn.batch_execute("SET lock_timeout = 0; SET statement_timeout = 0")?;
    conn.batch_execute(MIGRATION_LOCK)?;
    let done = schema_version::migrate(conn, MIGRATIONS);
    conn.batch_execute(MIGRATION_UNLOCK)?;
    done
}

/// Raises the received marks of these users; a mark never goes back.
pub(crate) fn raise_received(conn: &mut PgConnection, marks: &[(UserId, AlarmId)]) -> QueryResult<()> {
    let (users, ids): (Vec<i64>, Vec<i64>) = marks.iter().map(|(user, up_to)| (user.get(), up_to.get())).unzip();
    sql_query(
        "UPDATE users SET received_up_to = new.up_to FROM unnest($1, $2) AS new (id, up_to) \
         WHERE users.id = new.id AND users.received_up_to < new.up_to",
    )
    .bind::<Array<BigInt>, _>(users)
    .bind::<Array<BigInt>, _>(ids)
    .execute(conn)?;
    Ok(())
}
