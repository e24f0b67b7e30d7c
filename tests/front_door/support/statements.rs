//! Which statements the reading connections of a node run. Told apart by the database: each node has its own, and only
//! those that a test asks for are watched.

use std::{
    collections::HashMap,
    path::Path,
    sync::{LazyLock, Mutex},
};

use diesel::connection::{Instrumentation, InstrumentationEvent, set_default_instrumentation};

use super::{TestNode, database};

/// By what both engines call the database when they open it.
static WATCHED: LazyLock<Mutex<HashMap<String, Vec<String>>>> = LazyLock::new(Mutex::default);

#[derive(Default)]
struct Watch {
    /// Of this connection, if it is one that is watched.
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
                // The pool asks a connection whether it still answers: not one of the service's statements.
                if self.reads_only && statement.contains("FROM") {
                    WATCHED.lock().unwrap().entry(database.clone()).or_default().push(statement);
                }
            }
            _ => {}
        }
    }
}

/// Without what the service adds on its way to the database.
fn name_in(url: &str) -> String {
    url.trim_start_matches("sqlite://").split('?').next().unwrap_or_default().to_owned()
}

/// Watches the connections to this database that are opened after this.
pub fn watch_statements(database: &Path) {
    WATCHED.lock().unwrap().insert(name_in(&database::url_of(database)), Vec::new());
    set_default_instrumentation(|| Some(Box::new(Watch::default()))).unwrap();
}

/// What this node has read since the last time.
pub fn statements_of(node: &TestNode) -> Vec<String> {
    let database = name_in(&database::url(node.folder()));
    std::mem::take(WATCHED.lock().unwrap().get_mut(&database).expect("a database that is watched"))
}
