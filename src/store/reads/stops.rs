//! When the previous run of this node stopped: the difference to now is the length of a restart.

use diesel::prelude::*;

use crate::{
    domain::Timestamp,
    store::{Store, StoreError, schema},
};

impl Store {
    /// When the previous run closed its sockets for a restart; `None` if it did not shut down in order. Blocks the
    /// thread, so it is only for the start of a node.
    pub fn stopped_at(&self) -> Result<Option<Timestamp>, StoreError> {
        let mut conn = self.pool.get().map_err(|error| StoreError::Unavailable(error.to_string()))?;
        Ok(schema::stops::table.select(schema::stops::stopped_at).get_result(&mut *conn).optional()?)
    }
}
