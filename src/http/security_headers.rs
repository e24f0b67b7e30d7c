//! What every response tells browsers.

use actix_web::middleware::DefaultHeaders;

/// Names and values. A page, a script or a picture comes with a `Content-Security-Policy` of its own instead of this one.
pub(super) const SECURITY_HEADERS: [(&str, &str); 4] = [
    // What a user wrote is never taken for a page or a script.
    ("x-content-type-options", "nosniff"),
    // No other page frames one of ours, to have its buttons pressed.
    ("x-frame-options", "DENY"),
    // An address may hold `?token=`.
    ("referrer-policy", "same-origin"),
    // Data that a browser shows as a page may do nothing.
    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
];

/// Adds them to a response that does not have them.
pub(crate) fn security_headers() -> DefaultHeaders {
    SECURITY_HEADERS.into_iter().fold(DefaultHeaders::new(), DefaultHeaders::add)
}
