//! The commit marker of a writer: a number in the writer's own row of `writer_marks`, raised by each of its
//! transactions. If the answer to a COMMIT is lost, the stored number shows whether the transaction is on disk. Nothing
//! else shows that when several nodes write.

use diesel::{insert_into, prelude::*, update};

use crate::domain::Timestamp;
use crate::store::{
    StoreError,
    engine::{DbConn, on_each},
    schema::writer_marks::dsl,
};

/// The number that one transaction of one writer stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CommitMarker {
    writer: i64,
    /// Counts the writer's transactions, from 0.
    number: i64,
}

impl CommitMarker {
    /// Creates the row of a new writer under a random id.
    pub(crate) fn create(conn: &mut DbConn, now: Timestamp) -> Result<Self, StoreError> {
        let writer = rand::random_range(1..=i64::MAX);
        insert_into(dsl::writer_marks)
            .values((dsl::writer.eq(writer), dsl::mark.eq(0), dsl::begun_at.eq(now.micros())))
            .execute(conn)?;
        Ok(Self { writer, number: 0 })
    }

    /// The marker of the writer's next transaction.
    pub(crate) fn next(self) -> Self {
        Self { number: self.number + 1, ..self }
    }

    /// The writer's id and the number, as the row holds them.
    pub(crate) fn row(self) -> (i64, i64) {
        (self.writer, self.number)
    }

    /// Stores this marker in the open transaction. Fails if the writer's row is missing, because the outcome of a
    /// commit could not be looked up then.
    pub(crate) fn write(self, conn: &mut DbConn) -> Result<(), StoreError> {
        let row = update(dsl::writer_marks.filter(dsl::writer.eq(self.writer))).set(dsl::mark.eq(self.number));
        if on_each!(conn, conn => row.execute(conn))? == 1 { Ok(()) } else { Err(StoreError::Row("writer_marks")) }
    }

    /// Whether the transaction with this marker is on disk. On PostgreSQL it waits for that transaction if it is still
    /// running on a lost connection.
    pub(crate) fn is_stored(self, conn: &mut DbConn) -> Result<bool, StoreError> {
        let row = dsl::writer_marks.filter(dsl::writer.eq(self.writer)).select(dsl::mark);
        let stored: i64 = match conn {
            DbConn::Sqlite(conn) => row.get_result(conn)?,
            DbConn::Pg(conn) => row.for_update().get_result(conn)?,
        };
        Ok(stored >= self.number)
    }
}
