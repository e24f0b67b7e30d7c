//! Migrates the schema of a database, and refuses a database that a newer version of this program has migrated.

use diesel::{backend::Backend, migration::MigrationSource};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness};

use super::StoreError;

/// The outcome of a migration.
pub(crate) struct Migrated {
    /// Whether the database was empty before.
    pub is_new: bool,
    /// How many migrations were run.
    pub done: usize,
    /// Version of the newest migration.
    pub version: String,
}

fn migration_error(error: impl std::fmt::Display) -> StoreError {
    StoreError::Unavailable(format!("migrations: {error}"))
}

/// The migrations that the database has, newest first.
///
/// # Errors
/// The database has one that this program does not know: it would misread what a newer version has written.
fn applied<DB: Backend, C: MigrationHarness<DB>>(
    conn: &mut C,
    known: &EmbeddedMigrations,
) -> Result<Vec<String>, StoreError> {
    let applied = conn.applied_migrations().map_err(migration_error)?;
    let known = MigrationSource::<DB>::migrations(known).map_err(migration_error)?;
    match applied.iter().find(|version| known.iter().all(|known| known.name().version() != **version)) {
        Some(unknown) => Err(StoreError::Newer(unknown.to_string())),
        None => Ok(applied.iter().map(ToString::to_string).collect()),
    }
}

/// Whether the schema is up to date.
///
/// # Errors
/// Also if the database is of a newer version.
pub(super) fn is_migrated<DB: Backend, C: MigrationHarness<DB>>(
    conn: &mut C,
    known: EmbeddedMigrations,
) -> Result<bool, StoreError> {
    applied(conn, &known)?;
    Ok(!conn.has_pending_migration(known).map_err(migration_error)?)
}

/// Runs all migrations that the database does not have yet.
pub(super) fn migrate<DB: Backend, C: MigrationHarness<DB>>(
    conn: &mut C,
    known: EmbeddedMigrations,
) -> Result<Migrated, StoreError> {
    let before = applied(conn, &known)?;
    let done = conn.run_pending_migrations(known).map_err(migration_error)?;
    let newest = done.iter().map(ToString::to_string).max().into_iter().chain(before.first().cloned()).max();
    Ok(Migrated { is_new: before.is_empty(), done: done.len(), version: newest.unwrap_or_default() })
}
