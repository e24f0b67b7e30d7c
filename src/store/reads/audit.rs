//! Reads of the audit.

use diesel::prelude::*;

use crate::{
    domain::Timestamp,
    store::{Store, StoreError, schema::audit},
};

/// What an admin did.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = audit)]
pub(crate) struct AuditEntry {
    pub id: i64,
    pub created_at: Timestamp,
    pub admin_id: i64,
    pub action: String,
    /// The kind of what was changed: `user`, `goods` …
    pub target: String,
    pub target_id: i64,
    /// The changed fields, with commas between them.
    pub fields: String,
}

impl Store {
    /// At most `limit` entries with an id above `after`, oldest first.
    pub(crate) async fn audit_after(&self, after: i64, limit: i64) -> Result<Vec<AuditEntry>, StoreError> {
        self.read(move |conn| {
            let entries = audit::table.filter(audit::id.gt(after)).order(audit::id).limit(limit);
            Ok(entries.select(AuditEntry::as_select()).load(conn)?)
        })
        .await
    }
}
