//! Middleware that keeps a connection from timing out while a response is under way.

use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use actix_http::{
    ConnectionType,
    body::{BodySize, BoxBody, MessageBody},
};
use actix_web::{
    Error,
    dev::{ServiceRequest, ServiceResponse},
    http::Version,
    middleware::Next,
};
use bytes::Bytes;

use super::Data;

/// What an HTTP connection is waiting for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum HttpState {
    /// The first byte of a request.
    Idle,
    /// The rest of a request head.
    ReadingHead,
    /// The end of a response.
    Responding,
}

/// The state of a connection, shared with the middleware that answers its requests.
#[derive(Clone)]
pub(super) struct SharedHttpState(pub(super) Rc<Cell<HttpState>>);

/// Keeps a connection in the state `Responding` until it is dropped.
struct Responding(SharedHttpState);

impl Drop for Responding {
    fn drop(&mut self) {
        self.0.0.set(HttpState::Idle);
    }
}

/// A response body. Its connection counts as responding until the body is dropped.
pub(crate) struct TrackedBody {
    body: BoxBody,
    _responding: Option<Responding>,
}

impl MessageBody for TrackedBody {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(cx)
    }
}

/// Middleware that keeps the connection from timing out while a response is under way, and counts the request. It also
/// turns off chunked encoding for HTTP/1.0 clients.
///
/// # Errors
/// The errors of the inner service.
pub(crate) async fn track_responses<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<TrackedBody>, Error> {
    let state = request.conn_data::<SharedHttpState>().cloned();
    if let Some(state) = &state {
        state.0.set(HttpState::Responding);
    }
    let responding = state.map(Responding);
    let supports_chunks = request.version() > Version::HTTP_10;
    let begun = Instant::now();
    let stats = request.app_data::<Data>().map(|services| Arc::clone(&services.requests));
    let mut response = next.call(request).await?.map_into_boxed_body();
    if let Some(stats) = stats {
        stats.count(response.request(), response.status(), begun.elapsed());
    }
    if !supports_chunks && response.response().body().size() == BodySize::Stream {
        // The body ends with the connection.
        let head = response.response_mut().head_mut();
        head.no_chunking(true);
        head.set_connection_type(ConnectionType::Close);
    }
    Ok(response.map_body(|_, body| TrackedBody { body, _responding: responding }))
}
