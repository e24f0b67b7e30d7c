//! `GET /admin/audit`: what admins changed.

use actix_web::HttpRequest;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Data, Response, json, problems, query};
use crate::store::AuditEntry;

/// Entries on a page if the request has no `limit`.
const DEFAULT_LIMIT: i64 = 50;

#[derive(Serialize, ToSchema)]
struct Audit {
    results: Vec<AuditEntry>,
    next_after: Option<i64>,
}

/// One page of the audit, oldest first.
#[utoipa::path(
    get, path = "/admin/audit", operation_id = "audit", tag = "admin", security(("bearer" = [])),
    params(
        ("after" = Option<i64>, Query, minimum = 0, description = "Entries after this id"),
        ("limit" = Option<i64>, Query, minimum = 1, description = "Rows on a page; above 200 counts as 200"),
    ),
    responses((status = 200, description = "Oldest first", body = Audit), problems::Admin, problems::InvalidValue),
)]
pub(super) async fn list(request: HttpRequest, services: Data) -> Response {
    services.admin_reader(&request).await?;
    let after = query::number(&request, "after")?.unwrap_or(0);
    let limit = query::limit(&request, DEFAULT_LIMIT)?;
    // One more than requested shows whether there is a next page.
    let mut entries = services.store.audit_after(after, limit + 1).await?;
    let more = entries.len() as i64 > limit;
    entries.truncate(usize::try_from(limit).unwrap_or(0));
    let next_after = entries.last().filter(|_| more).map(|entry| entry.id);
    Ok(json::ok(&Audit { results: entries, next_after }))
}
