//! Reads of the audit.

use diesel::prelude::*;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    domain::Timestamp,
    store::{Store, StoreError, schema::audit},
};

/// What an admin did.
#[derive(Debug, Clone, Queryable, Selectable, Serialize, ToSchema)]
#[diesel(table_name = audit)]
pub(crate) struct AuditEntry {
    pub id: i64,
    pub created_at: Timestamp,
    pub admin_id: i64,
    pub action: String,
    /// The kind of what was changed: `user`, `goods` …
    pub target: String,
    pub target_id: i64,
    /// The changed fields.
    #[diesel(deserialize_as = FieldList)]
    pub fields: Vec<String>,
}

/// Names of fields. A row has them with commas between.
pub(crate) struct FieldList(Vec<String>);

impl FieldList {
    pub(crate) fn parse(text: &str) -> Self {
        Self(text.split(',').filter(|field| !field.is_empty()).map(str::to_owned).collect())
    }
}

impl From<FieldList> for Vec<String> {
    fn from(FieldList(fields): FieldList) -> Self {
        fields
    }
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
