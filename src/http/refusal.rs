//! Problems for requests that never reach the app, because they are malformed, take too long, or come on a connection
//! that is refused. actix-http answers a
//! malformed request by itself, with only a head: this recognizes that head and makes the problem to send instead.

use std::time::{Duration, SystemTime};

use actix_http::StatusCode;
use actix_web::http::header::HttpDate;
use bytes::Bytes;

use super::{request_log::RequestId, security_headers::SECURITY_HEADERS};
use crate::protocol::{Code, Problem, to_json};

/// The longest head, in bytes, that actix-http writes when it refuses a malformed request.
const BARE_HEAD_LIMIT: usize = 200;

/// The answer to a request head that takes too long.
pub(super) fn head_too_slow(limit: Duration) -> Problem {
    let detail = format!("a request head must arrive within {} s of its first byte", limit.as_secs());
    Problem::new(Code::RequestTimeout, detail)
}

/// The answer to a connection whose address has too many.
pub(super) fn too_many_connections() -> Problem {
    Problem::unavailable("this address has too many connections open; close some, or try again later")
}

/// Finds a refusal that actix-http has written by itself: where in these bytes it starts, and the problem to send
/// instead. actix-http refuses a malformed request with a head without a body, as the last bytes of a write. The app's
/// own refusals have a body.
pub(super) fn bare_refusal(bytes: &[u8]) -> Option<(usize, Problem)> {
    const BEGIN: &[u8] = b"HTTP/1.";
    let heads = bytes.strip_suffix(b"\r\n\r\n")?;
    let last = heads.len().saturating_sub(BARE_HEAD_LIMIT);
    let at = last + heads[last..].windows(BEGIN.len()).rposition(|begin| begin == BEGIN)?;
    let mut lines = std::str::from_utf8(&heads[at..]).ok()?.split("\r\n");
    let status: u16 = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let is_bare =
        |line: &str| line == "content-length: 0" || line.starts_with("connection: ") || line.starts_with("date: ");
    if !lines.all(is_bare) {
        return None;
    }
    let problem = match status {
        400 => Problem::new(Code::InvalidBody, "not a valid HTTP/1.1 request, or its headers contradict each other"),
        431 => Problem::new(Code::HeadersTooLarge, "a request head may have at most 96 headers and 128 KiB"),
        _ => return None,
    };
    Some((at, problem))
}

/// A whole HTTP response with this problem. It announces that the connection closes.
pub(super) fn refusal(problem: &Problem, id: &RequestId) -> Bytes {
    let status = StatusCode::from_u16(problem.status()).unwrap_or(StatusCode::BAD_REQUEST);
    let retry_after = problem.retry_after_s().map(|seconds| format!("retry-after: {seconds}\r\n")).unwrap_or_default();
    let security = SECURITY_HEADERS.map(|(name, value)| format!("{name}: {value}\r\n")).concat();
    let (date, body) = (HttpDate::from(SystemTime::now()), to_json(problem));
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\ncontent-type: application/problem+json\r\n\
         x-request-id: {}\r\n{security}{retry_after}date: {date}\r\n\r\n",
        body.len(),
        id.as_str()
    );
    [head.as_bytes(), body.as_ref()].concat().into()
}
