//! Which statements the writer of one database runs, on PostgreSQL: each is a round trip.

use std::sync::Mutex;

use diesel::connection::{Instrumentation, InstrumentationEvent, set_default_instrumentation};

/// The database that is watched, and what its writer ran.
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

/// Watches the connections to this database that are opened after this. One database for each program.
pub fn watch(url: &str) {
    url.clone_into(&mut WATCHED.lock().unwrap().0);
    set_default_instrumentation(|| Some(Box::new(Watch::default()))).unwrap();
}

/// What the writer has run since the last time.
pub fn taken() -> Vec<String> {
    std::mem::take(&mut WATCHED.lock().unwrap().1)
}
