//! Text search within a time limit, and the SQL functions that it uses. A search scans all goods, and a client may have
//! written goods whose texts are slow to search, so without a limit one client could block the reads of all others.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use diesel::prelude::*;

use super::StoreError;

diesel::define_sql_function! {
    /// A text in lower case.
    fn lower(text: diesel::sql_types::Text) -> diesel::sql_types::Text;
}

diesel::define_sql_function! {
    /// Position of the first `part` in `text`, from 1; 0 if there is none. Its time grows with the text alone, LIKE's
    /// does not.
    fn strpos(text: diesel::sql_types::Text, part: diesel::sql_types::Text) -> diesel::sql_types::Integer;
}

thread_local! {
    /// Deadline of the search that this thread runs.
    static SEARCH_DEADLINE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Runs a search that may take no longer than `timeout`. After that SQLite's functions below return at once, so that
/// the scan ends soon; PostgreSQL cancels the statement itself.
///
/// # Errors
/// The search took too long.
pub(super) fn search<T>(timeout: Duration, search: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    let deadline = Instant::now() + timeout;
    SEARCH_DEADLINE.set(Some(deadline));
    let found = search();
    SEARCH_DEADLINE.set(None);
    if Instant::now() < deadline { found } else { Err(StoreError::Unavailable("the search takes too long".to_owned())) }
}

/// Defines `lower` and `strpos` on an SQLite connection: its own `lower` only handles ASCII, and it has no `strpos`.
pub(super) fn register(conn: &mut SqliteConnection) -> QueryResult<()> {
    lower_utils::register_impl(conn, lower_case)?;
    strpos_utils::register_impl(conn, position)
}

fn is_past_deadline() -> bool {
    SEARCH_DEADLINE.get().is_some_and(|deadline| Instant::now() >= deadline)
}

fn lower_case(text: String) -> String {
    if is_past_deadline() { String::new() } else { text.to_lowercase() }
}

fn position(text: String, part: String) -> i32 {
    if is_past_deadline() {
        return 0;
    }
    text.find(&part).map_or(0, |at| i32::try_from(at).map_or(i32::MAX, |at| at.saturating_add(1)))
}
