//! Which migrations a database has had: it is brought up to date, and refused if it is ahead of this program.

use diesel::{backend::Backend, migration::MigrationSource};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness};

use super::StoreError;

/// A schema that has been brought up to date.
pub(crate) struct Migrated {
    /// There was no schema before.
    pub is_new: bool,
    /// How many migrations were done.
    pub done: usize,
    /// The newest migration.
    pub version: String,
}

fn failed(error: impl std::fmt::Display) -> StoreError {
    StoreError::Unavailable(format!("migrations: {error}"))
}

/// The versions that the database has had, the newest first. One that this program does not know was made by a newer
/// one, whose rows it would misread.
fn applied<DB: Backend, C: MigrationHarness<DB>>(
    conn: &mut C,
    known: &EmbeddedMigrations,
) -> Result<Vec<String>, StoreError> {
    let applied = conn.applied_migrations().map_err(failed)?;
    let known = MigrationSource::<DB>::migrations(known).map_err(failed)?;
    match applied.iter().find(|version| known.iter().all(|known| known.name().version() != **version)) {
        Some(unknown) => Err(StoreError::Newer(unknown.to_string())),
        None => Ok(applied.iter().map(ToString::to_string).collect()),
    }
}

/// Whether the schema is up to date.
pub(super) fn is_migrated<DB: Backend, C: MigrationHarness<DB>>(
    conn: &mut C,
    known: EmbeddedMigrations,
) -> Result<bool, StoreError> {
    applied(conn, &known)?;
    Ok(!conn.has_pending_migration(known).map_err(failed)?)
}

/// Brings the schema up to date.
pub(super) fn migrate<DB: Backend, C: MigrationHarness<DB>>(
    conn: &mut C,
    known: EmbeddedMigrations,
) -> Result<Migrated, StoreError> {
    let before = applied(conn, &known)?;
    let done = conn.run_pending_migrations(known).map_err(failed)?;
    let newest = done.iter().map(ToString::to_string).max().into_iter().chain(before.first().cloned()).max();
    Ok(Migrated { is_new: before.is_empty(), done: done.len(), version: newest.unwrap_or_default() })
}
