//! The statements that the writer of one PostgreSQL database runs: each is a round trip.

use std::sync::Mutex;

use diesel::connection::{Instrumentation, InstrumentationEvent, set_default_instrumentation};

/// The name of the watched database, and what its writer has run.
static WATCHED: Mutex<(String, Vec<String>)> = Mutex::new((String::new(), Vec::new()));

#[derive(Default)]
struct Watch {
    is_of_database: bool,
    is_writer: bool,
}

impl Instrumentation for Watch {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        match event {
            InstrumentationEvent::StartEstablishConnection { url, .. } => {
                let watched = &WATCHED.lock().unwrap().0;
                self.is_of_database = !watched.is_empty() && url.starts_with(watched.as_str());
            }
            InstrumentationEvent::StartQuery { query, .. } if self.is_of_database => {
                let statement = query.to_string();
                self.is_writer |= statement.contains("synchronous_commit = on");
                if self.is_writer {
                    WATCHED.lock().unwrap().1.push(statement);
                }
            }
            _ => {}
        }
    }
}

/// Watches the connections that are opened to this database from now on. One database for each program.
pub fn watch(url: &str) {
    url.clone_into(&mut WATCHED.lock().unwrap().0);
    set_default_instrumentation(|| Some(Box::new(Watch::default()))).unwrap();
}

/// What the writer has run since the last call.
pub fn taken() -> Vec<String> {
    std::mem::take(&mut WATCHED.lock().unwrap().1)
}
