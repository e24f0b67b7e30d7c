//! The statements that a node's reading connections run. Each node has its own database, which tells them apart. Only
//! the databases that a test asks for are watched.

use std::{
    collections::HashMap,
    path::Path,
    sync::{LazyLock, Mutex},
};

use diesel::connection::{Instrumentation, InstrumentationEvent, set_default_instrumentation};

use super::{TestNode, database};

/// Statements by the name under which both engines open the database.
static WATCHED: LazyLock<Mutex<HashMap<String, Vec<String>>>> = LazyLock::new(Mutex::default);

#[derive(Default)]
struct Watch {
    /// The database of this connection, if it is watched.
    database: Option<String>,
    reads_only: bool,
}

impl Instrumentation for Watch {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        match (event, &self.database) {
            (InstrumentationEvent::StartEstablishConnection { url, .. }, _) => {
                let database = name_in(url);
                self.database = WATCHED.lock().unwrap().contains_key(&database).then_some(database);
            }
            (InstrumentationEvent::StartQuery { query, .. }, Some(database)) => {
                let statement = query.to_string();
                self.reads_only |= statement.contains("query_only") || statement.contains("read_only = on");
                // The pool probes whether a connection still answers: that is not a statement of the service.
                if self.reads_only && statement.contains("FROM") {
                    WATCHED.lock().unwrap().entry(database.clone()).or_default().push(statement);
                }
            }
            _ => {}
        }
    }
}

/// The database's name in a URL, without what the service adds.
fn name_in(url: &str) -> String {
    url.trim_start_matches("sqlite://").split('?').next().unwrap_or_default().to_owned()
}

/// Watches the connections that are opened to this database from now on.
pub fn watch_statements(database: &Path) {
    WATCHED.lock().unwrap().insert(name_in(&database::url_of(database)), Vec::new());
    set_default_instrumentation(|| Some(Box::new(Watch::default()))).unwrap();
}

/// What this node has read since the last call.
pub fn statements_of(node: &TestNode) -> Vec<String> {
    let database = name_in(&database::url(node.folder()));
    std::mem::take(WATCHED.lock().unwrap().get_mut(&database).expect("a database that is watched"))
}
