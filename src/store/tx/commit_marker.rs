//! How far a writer has come: a number in a row of its own, written in the transaction that it marks. After a COMMIT
//! whose answer was lost, it tells whether that is on disk; with several writers nothing else could.

use diesel::{insert_into, prelude::*, update};

use crate::domain::Timestamp;
use crate::store::{
    StoreError,
    engine::{DbConn, on_each},
    schema::writer_marks::dsl,
};

/// A writer's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CommitMarker {
    writer: i64,
    at: i64,
}

impl CommitMarker {
    /// Makes the row of a new writer.
    pub(crate) fn begin(conn: &mut DbConn, now: Timestamp) -> Result<Self, StoreError> {
        let writer = rand::random_range(1..=i64::MAX);
        insert_into(dsl::writer_marks)
            .values((dsl::writer.eq(writer), dsl::mark.eq(0), dsl::begun_at.eq(now.micros())))
            .execute(conn)?;
        Ok(Self { writer, at: 0 })
    }

    /// The one after this.
    pub(crate) fn next(self) -> Self {
        Self { at: self.at + 1, ..self }
    }

    /// Its row, and what is written there.
    pub(crate) fn row(self) -> (i64, i64) {
        (self.writer, self.at)
    }

    pub(crate) fn write(self, conn: &mut DbConn) -> Result<(), StoreError> {
        let row = update(dsl::writer_marks.filter(dsl::writer.eq(self.writer))).set(dsl::mark.eq(self.at));
        // Without its row a writer could not tell what became of a commit.
        if on_each!(conn, conn => row.execute(conn))? == 1 { Ok(()) } else { Err(StoreError::Row("writer_marks")) }
    }

    /// Whether this mark is on disk. Waits for the end of the transaction that wrote it, should that still be under way
    /// on a connection that was lost.
    pub(crate) fn is_stored(self, conn: &mut DbConn) -> Result<bool, StoreError> {
        let row = dsl::writer_marks.filter(dsl::writer.eq(self.writer)).select(dsl::mark);
        let stored: i64 = match conn {
            DbConn::Sqlite(conn) => row.get_result(conn)?,
            DbConn::Pg(conn) => row.for_update().get_result(conn)?,
        };
        Ok(stored >= self.at)
    }
}
