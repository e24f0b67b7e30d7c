//! Which statements the reading connections of a node run. Told apart by the database: each node has its own, and only
//! those that a test asks for are watched.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{LazyLock, Mutex},
};

use diesel::connection::{Instrumentation, InstrumentationEvent, set_default_instrumentation};

use super::TestNode;

static WATCHED: LazyLock<Mutex<HashMap<PathBuf, Vec<String>>>> = LazyLock::new(Mutex::default);

#[derive(Default)]
struct Watch {
    /// Of this connection, if it is one that is watched.
    database: Option<PathBuf>,
    reads_only: bool,
}

impl Instrumentation for Watch {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        match (event, &self.database) {
            (InstrumentationEvent::StartEstablishConnection { url, .. }, _) => {
                let database = PathBuf::from(url);
                self.database = WATCHED.lock().unwrap().contains_key(&database).then_some(database);
            }
            (InstrumentationEvent::StartQuery { query, .. }, Some(database)) => {
                let statement = query.to_string();
                self.reads_only |= statement.contains("query_only");
                // The pool asks a connection whether it still answers: not one of the service's statements.
                if self.reads_only && statement.contains("FROM") {
                    WATCHED.lock().unwrap().entry(database.clone()).or_default().push(statement);
                }
            }
            _ => {}
        }
    }
}

/// Watches the connections to this database that are opened after this.
pub fn watch_statements(database: &Path) {
    WATCHED.lock().unwrap().insert(database.to_owned(), Vec::new());
    set_default_instrumentation(|| Some(Box::new(Watch::default()))).unwrap();
}

/// What this node has read since the last time.
pub fn statements_of(node: &TestNode) -> Vec<String> {
    let database = node.folder().join("test.db");
    std::mem::take(WATCHED.lock().unwrap().get_mut(&database).expect("a database that is watched"))
}
