//! Errors as HTTP responses. A [`Problem`] becomes a response here, and a failure of the store becomes a `Problem`.

use std::fmt;

use actix_cors::CorsError;
use actix_web::{
    Error, HttpResponse, ResponseError,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::{StatusCode, header},
    middleware::Next,
    web,
};

use super::{Services, json};
use crate::{
    protocol::{Code, Problem},
    store::{StoreError, WriteError},
};

/// A [`Problem`] that a handler returns as its response.
#[derive(Debug)]
pub(crate) struct ApiError(pub Problem);

impl ApiError {
    pub(super) fn unauthorized(detail: &str) -> Self {
        Self(Problem::new(Code::Unauthorized, detail))
    }

    pub(super) fn not_found(detail: &str) -> Self {
        Self(Problem::new(Code::NotFound, detail))
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.code().name())
    }
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<StoreError> for ApiError {
    /// The database's own words go to the log, never to the client.
    fn from(error: StoreError) -> Self {
        log::debug!(error:%; "a read of the database failed");
        Self(Problem::unavailable("the database is not available; try again"))
    }
}

impl From<WriteError> for ApiError {
    fn from(error: WriteError) -> Self {
        Self(Problem::unavailable(match error {
            WriteError::NotStored => "not stored; try again",
            WriteError::Unknown => "it may have been stored; check before you try again",
        }))
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.0.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status_code());
        if let Some(seconds) = self.0.retry_after_s() {
            response.insert_header((header::RETRY_AFTER, seconds.to_string()));
        }
        if self.0.code() == Code::Unauthorized {
            response.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
        }
        if self.0.code() == Code::UnsupportedEncoding {
            response.insert_header((header::ACCEPT_ENCODING, "identity"));
        }
        if matches!(self.0.code(), Code::PayloadTooLarge | Code::UnsupportedEncoding | Code::RequestTimeout) {
            // The rest of the body is unread, so no other request can follow on this connection.
            response.force_close();
        }
        json::json_as("application/problem+json", response, &self.0)
    }
}

/// 404 for a path without a route.
pub(super) async fn path_not_found() -> Result<HttpResponse, ApiError> {
    Err(ApiError::not_found("no such path"))
}

/// Middleware: turns the refusals of actix-web, of CORS and of a method without a route, into problems.
///
/// # Errors
/// Those of the wrapped service.
pub(crate) async fn refusal_as_problem<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let response = next.call(request).await?;
    let allow = response.headers().get(header::ALLOW).filter(|_| response.status() == StatusCode::METHOD_NOT_ALLOWED);
    let refusal = if response.response().error().is_some_and(|error| error.as_error::<CorsError>().is_some()) {
        if let Some(services) = response.request().app_data::<web::Data<Services>>() {
            services.log_refused_origin(response.request());
        }
        ApiError(Problem::new(Code::Forbidden, "pages of this origin may not send this request")).error_response()
    } else if let Some(allow) = allow.cloned() {
        let detail = format!("this path supports {}", allow.to_str().unwrap_or_default());
        let mut refusal = ApiError(Problem::new(Code::MethodNotAllowed, detail)).error_response();
        refusal.headers_mut().insert(header::ALLOW, allow);
        refusal
    } else {
        return Ok(response.map_into_left_body());
    };
    Ok(response.into_response(refusal).map_into_right_body())
}
