//! Which statements a node's reading connections run. Every connection of the process is watched, and told apart by
//! its database: each node has its own.

use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex},
};

use diesel::connection::{Instrumentation, InstrumentationEvent, set_default_instrumentation};

use super::TestNode;

static SEEN: LazyLock<Mutex<HashMap<String, Vec<String>>>> = LazyLock::new(Mutex::default);

/// One connection that is watched.
#[derive(Default)]
struct Watched {
    database: String,
    reads_only: bool,
}

impl Instrumentation for Watched {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        match event {
            InstrumentationEvent::StartEstablishConnection { url, .. } => self.database = url.to_owned(),
            InstrumentationEvent::StartQuery { query, .. } => {
                let statement = query.to_string();
                self.reads_only |= statement.contains("query_only");
                // The pool asks a connection whether it still answers: not one of the service's statements.
                if self.reads_only && statement.contains("FROM") {
                    SEEN.lock().unwrap().entry(self.database.clone()).or_default().push(statement);
                }
            }
            _ => {}
        }
    }
}

/// The statements of nodes that are started after this.
pub fn watch_statements() {
    set_default_instrumentation(|| Some(Box::new(Watched::default()))).unwrap();
}

/// What this node has read since the last time.
pub fn statements_of(node: &TestNode) -> Vec<String> {
    let database = node.folder().join("test.db");
    SEEN.lock().unwrap().remove(database.to_str().unwrap()).unwrap_or_default()
}
