//! `GET /admin/users/{id}/export`: all that is kept of a user, as one JSON object. It is read and sent page by page, so
//! that it takes little memory however much that is.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{CACHE_CONTROL, ContentType},
    web::Path,
};
use bytes::Bytes;
use futures_util::stream;
use serde::Serialize;

use super::{
    Data, Response, problems,
    request_log::id_of,
    users::{user_id, user_not_found},
};
use crate::{
    domain::{Locale, UserId},
    protocol::{AlarmBody, to_json},
    store::{ExportCursor, ExportPage, ExportPart, Store, StoreError},
};

/// Alarms of a page.
const ALARMS_LIMIT: i64 = 200;

/// A list in the export.
#[derive(Clone, Copy)]
enum List {
    Rows(ExportPart),
    Alarms,
}

/// The lists in their order, with their names.
const LISTS: [(&str, List); 9] = [
    ("goods", List::Rows(ExportPart::Goods)),
    ("bids", List::Rows(ExportPart::Bids)),
    ("likes", List::Rows(ExportPart::Likes)),
    ("lines", List::Rows(ExportPart::Lines)),
    ("trades", List::Rows(ExportPart::Trades)),
    ("messages", List::Rows(ExportPart::Messages)),
    ("alarms", List::Alarms),
    ("idempotency_keys", List::Rows(ExportPart::IdempotencyKeys)),
    ("audit", List::Rows(ExportPart::Audit)),
];

/// Sends everything that is kept of a user. If the database fails meanwhile, the connection breaks off, so that nobody
/// takes a part for the whole.
#[utoipa::path(
    get, path = "/admin/users/{id}/export", operation_id = "export_user", tag = "admin", security(("bearer" = [])),
    params(("id" = UserId, Path, description = "The user")),
    responses(
        (
            status = 200, description = "The `user`, and lists: `goods`, `bids`, `likes`, `lines`, `trades`, \
                `messages`, `alarms`, `idempotency_keys`, `audit`",
            content_type = "application/json", body = serde_json::Value,
        ),
        problems::Admin, problems::NotFound,
    ),
)]
pub(super) async fn export(request: HttpRequest, id: Path<String>, services: Data) -> Response {
    let admin = services.admin_reader(&request).await?.user.id;
    let user = user_id(&id)?;
    let row = services.store.export_user(user).await?.ok_or_else(user_not_found)?;
    log::info!(request = id_of(&request), admin = admin.get(), user = user.get(); "an admin exports a user");
    let locale = row.locale().unwrap_or(services.live.load().locale);
    let beginning = [b"{\"user\":", &to_json(&row)[..]].concat();
    let export =
        Export { store: services.store.clone(), user, locale, list: 0, at: None, has_rows: false, next: beginning };
    let body = stream::unfold(Some(export), |export| async { Some(export?.step().await) });
    let mut response = HttpResponse::Ok();
    Ok(response.insert_header(ContentType::json()).insert_header((CACHE_CONTROL, "no-store")).streaming(body))
}

/// An export under way.
struct Export {
    store: Store,
    user: UserId,
    /// The language of the alarms' texts.
    locale: Locale,
    /// The index of the list that is being sent.
    list: usize,
    /// Where its next page begins; `None`: at its start.
    at: Option<ExportCursor>,
    /// Whether rows of it are sent.
    has_rows: bool,
    /// What is sent next.
    next: Vec<u8>,
}

impl Export {
    /// The next piece, and what is left to send after it.
    async fn step(mut self) -> (Result<Bytes, StoreError>, Option<Self>) {
        let Some((name, list)) = LISTS.get(self.list) else { return (Ok(Bytes::from_static(b"}")), None) };
        if self.at.is_none() {
            self.next.extend(format!(",\"{name}\":[").into_bytes());
        }
        match self.add_page(*list).await {
            Err(error) => return (Err(error), None),
            Ok(Some(cursor)) => self.at = Some(cursor),
            Ok(None) => {
                self.next.push(b']');
                (self.list, self.at, self.has_rows) = (self.list + 1, None, false);
            }
        }
        (Ok(std::mem::take(&mut self.next).into()), Some(self))
    }

    /// Adds a page of rows. Returns where the next one begins, `None` at the end of the list.
    async fn add_page(&mut self, list: List) -> Result<Option<ExportCursor>, StoreError> {
        let from = self.at.clone().unwrap_or_default();
        match list {
            List::Rows(part) => {
                let ExportPage { rows, next } = self.store.export_page(self.user, part, from).await?;
                rows.iter().for_each(|row| self.add(row));
                Ok(next)
            }
            List::Alarms => {
                let alarms = self.store.inbox_after(self.user, from.id, ALARMS_LIMIT).await?;
                for row in &alarms {
                    self.add(&AlarmBody::row(&row.alarm, row.read, row.superseded, self.locale));
                }
                let last = alarms.last().filter(|_| alarms.len() as i64 == ALARMS_LIMIT);
                Ok(last.map(|row| ExportCursor::after(row.alarm.id.get())))
            }
        }
    }

    fn add(&mut self, row: &impl Serialize) {
        if std::mem::replace(&mut self.has_rows, true) {
            self.next.push(b',');
        }
        self.next.extend(to_json(row));
    }
}
