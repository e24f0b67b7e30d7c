//! When the node before this one ended.

use diesel::prelude::*;

use crate::{
    domain::Timestamp,
    store::{Store, StoreError, schema},
};

impl Store {
    /// When the node before this one told its sockets that it restarts; none if it did not end in order. Waits for the
    /// database: for a node that starts.
    ///
    /// # Errors
    /// [`StoreError`] when the database can't be read.
    pub fn stopped_at(&self) -> Result<Option<Timestamp>, StoreError> {
        let mut conn = self.pool.get().map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let at: Option<i64> =
            schema::stops::table.select(schema::stops::stopped_at).get_result(&mut *conn).optional()?;
        Ok(at.map(Timestamp::from_micros))
    }
}
