//! Query strings. Each value is parsed by itself, so that a 422 names the wrong one.

use actix_web::HttpRequest;

use super::ApiError;
use crate::{domain::Phase, protocol::Problem, store::Page};

/// Rows on a page; a larger `limit` counts as this.
pub(super) const MAX_LIMIT: i64 = 200;

/// All values with this name, percent-decoded.
pub(super) fn values(request: &HttpRequest, name: &str) -> impl Iterator<Item = String> {
    url::form_urlencoded::parse(request.query_string().as_bytes())
        .filter(move |(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}

/// The first value with this name.
pub(super) fn value(request: &HttpRequest, name: &str) -> Option<String> {
    values(request, name).next()
}

/// An id or count that may be 0. A number above the 64-bit range counts as the largest one: no alarm or bid has such an
/// id.
/// Errors: 422 for anything but digits.
pub(super) fn number(request: &HttpRequest, name: &str) -> Result<Option<i64>, ApiError> {
    Ok(value(request, name).map(|text| parse_number(name, &text)).transpose()?)
}

/// Parses such a number that is not in a query; the error contains `name`.
/// Errors: 422 for anything but digits.
pub(super) fn parse_number(name: &str, text: &str) -> Result<i64, Problem> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits {
        Ok(text.parse().unwrap_or(i64::MAX))
    } else {
        Err(Problem::invalid_value(name, "a whole number from 0"))
    }
}

/// `limit`: from 1, capped at [`MAX_LIMIT`].
/// Errors: 422 for 0 and for anything but digits.
pub(super) fn limit(request: &HttpRequest, default: i64) -> Result<i64, ApiError> {
    match number(request, "limit")? {
        None => Ok(default),
        Some(0) => Err(Problem::invalid_value("limit", "a whole number from 1").into()),
        Some(limit) => Ok(limit.min(MAX_LIMIT)),
    }
}

/// `true` or `false`; false without a value.
/// Errors: 422 for anything else.
pub(super) fn flag(request: &HttpRequest, name: &str) -> Result<bool, ApiError> {
    match value(request, name).as_deref() {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(Problem::invalid_value(name, "true or false").into()),
    }
}

/// The first value with this name unless it is empty: the existing client sends parameters that it does not use as
/// empty.
pub(super) fn non_empty(request: &HttpRequest, name: &str) -> Option<String> {
    value(request, name).filter(|value| !value.is_empty())
}

/// `page`: from 1, and 1 without a value.
/// Errors: 422 for 0 and for anything but digits.
pub(super) fn page(request: &HttpRequest) -> Result<Page, ApiError> {
    let Some(text) = non_empty(request, "page") else { return Ok(Page::FIRST) };
    let page = parse_number("page", &text).ok().and_then(Page::new);
    Ok(page.ok_or_else(|| Problem::invalid_value("page", "a whole number from 1"))?)
}

/// An empty first page is a valid result; an empty later page is 404, at which the existing client's endless scroll
/// stops.
/// Errors: 404 past the end.
pub(super) fn reject_past_end<T>(page: Page, rows: Vec<T>) -> Result<Vec<T>, ApiError> {
    if rows.is_empty() && page != Page::FIRST { Err(ApiError::not_found("no such page")) } else { Ok(rows) }
}

/// Parses the origin's `status`.
pub(super) fn phase(text: &str) -> Option<Phase> {
    match text {
        "null" => Some(Phase::Scheduled),
        "true" => Some(Phase::Live),
        "false" => Some(Phase::Ended),
        _ => None,
    }
}

/// A text to search for, of at most `max_chars` characters.
/// Errors: 422 for a longer one, and for one with NUL, which no stored text has.
pub(super) fn text(request: &HttpRequest, name: &str, max_chars: usize) -> Result<Option<String>, ApiError> {
    match non_empty(request, name) {
        Some(text) if text.contains('\0') || text.chars().count() > max_chars => {
            Err(Problem::invalid_value(name, &format!("a text of at most {max_chars} characters, without NUL")).into())
        }
        text => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;
    use proptest::prelude::*;

    #[test]
    fn wrong_values_are_422_and_large_limits_are_capped() {
        let of = |query: &str| TestRequest::with_uri(&format!("/x?{query}")).to_http_request();
        assert_eq!(limit(&of("limit=500"), 50).ok(), Some(200));
        assert_eq!(limit(&of("limit=99999999999999999999"), 50).ok(), Some(200));
        assert_eq!(limit(&of(""), 50).ok(), Some(50));
        for bad in ["limit=0", "limit=-1", "limit=", "limit=ten", "limit=1.5", "limit=%00"] {
            assert_eq!(limit(&of(bad), 50).map_err(|e| e.0.status()), Err(422), "{bad}");
        }
        assert_eq!(page(&of("page=&status=")).ok(), Some(Page::FIRST));
        for bad in ["page=0", "page=-1", "page=x", "page=1.0", "page=%2B1", "page=%00"] {
            assert_eq!(page(&of(bad)).map_err(|e| e.0.status()), Err(422), "{bad}");
        }
        assert_eq!(flag(&of("unread=yes"), "unread").map_err(|e| e.0.status()), Err(422));
        assert_eq!(value(&of("a=1&token=x%2By"), "token").as_deref(), Some("x+y"));
    }

    proptest! {
        #[test]
        fn any_query_has_values_in_range_or_is_422(
            query in "((limit|page|after|unread|search)=[%0-9A-Fa-f+.;=-]{0,20}&?){0,4}",
        ) {
            let request = TestRequest::with_uri(&format!("/x?{query}")).to_http_request();
            let wrong = |error: ApiError| error.0.status() == 422;
            prop_assert!(limit(&request, 50).map_or_else(wrong, |limit| (1..=MAX_LIMIT).contains(&limit)));
            prop_assert!(number(&request, "after").map_or_else(wrong, |after| after.is_none_or(|after| after >= 0)));
            prop_assert!(page(&request).map_or_else(wrong, |_| true));
            prop_assert!(flag(&request, "unread").map_or_else(wrong, |_| true));
            let is_short = |text: Option<String>| text.is_none_or(|text| text.chars().count() <= 10);
            prop_assert!(text(&request, "search", 10).map_or_else(wrong, is_short));
        }

        /// As `Last-Event-ID` is parsed.
        #[test]
        fn a_number_is_its_digits(text in ".{0,30}|[0-9]{1,30}", number in 0..=i64::MAX) {
            let is_digits = !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
            prop_assert_eq!(parse_number("x", &text).ok().is_some_and(|number| number >= 0), is_digits);
            prop_assert_eq!(parse_number("x", &number.to_string()).ok(), Some(number));
        }
    }
}
