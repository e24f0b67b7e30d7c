//! Searching texts within a bounded time: a search looks at everything there is, and whoever
//! searches may have written what is searched.

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
    /// Where a text has another in it, from 1; 0 if nowhere. Unlike LIKE it takes time that grows with the text alone.
    fn strpos(text: diesel::sql_types::Text, part: diesel::sql_types::Text) -> diesel::sql_types::Integer;
}

thread_local! {
    /// When the search of this thread has to be over.
    static SEARCH_UNTIL: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Runs a search, which must not hold a reading connection for longer than `patience`: past it SQLite looks into nothing
/// any more (PostgreSQL ends the statement by itself).
///
/// # Errors
/// It took too long.
pub(super) fn search<T>(patience: Duration, search: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    let until = Instant::now() + patience;
    SEARCH_UNTIL.set(Some(until));
    let found = search();
    SEARCH_UNTIL.set(None);
    if Instant::now() < until { found } else { Err(StoreError::Unavailable("the search takes too long".to_owned())) }
}

/// SQLite's own `lower` knows only the letters of ASCII, and `strpos` it has none.
pub(super) fn register(conn: &mut SqliteConnection) -> QueryResult<()> {
    lower_utils::register_impl(conn, lower_case)?;
    strpos_utils::register_impl(conn, position)
}

fn is_too_long() -> bool {
    SEARCH_UNTIL.get().is_some_and(|until| Instant::now() >= until)
}

fn lower_case(text: String) -> String {
    if is_too_long() { String::new() } else { text.to_lowercase() }
}

fn position(text: String, part: String) -> i32 {
    if is_too_long() {
        return 0;
    }
    text.find(&part).map_or(0, |at| i32::try_from(at).map_or(i32::MAX, |at| at.saturating_add(1)))
}
