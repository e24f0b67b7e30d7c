//! A response without a session, on a connection that has left HTTP.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use actix_http::body::{BoxBody, MessageBody};
use bytes::Bytes;

use super::connection_end::ConnectionEnd;
use crate::actors::{ByteSource, Output};

/// The body of a response. The connection ends with it.
pub(super) struct PlainResponse {
    body: BoxBody,
    end: ConnectionEnd,
    /// Whether `end` is resolved.
    has_input_ended: bool,
}

impl PlainResponse {
    pub(super) fn new(body: BoxBody, end: ConnectionEnd) -> Self {
        Self { body, end, has_input_ended: false }
    }
}

impl ByteSource for PlainResponse {
    fn poll_output(&mut self, cx: &mut Context<'_>) -> Poll<Output> {
        Pin::new(&mut self.body).poll_next(cx).map(|next| match next {
            Some(Ok(bytes)) => Output::More(bytes),
            // After an error nothing more can be sent.
            Some(Err(_)) | None => Output::Last(Bytes::new()),
        })
    }

    /// Input is read only to notice its end, which the body may be waiting for.
    fn wants_input(&self) -> bool {
        !self.has_input_ended
    }

    fn receive(&mut self, read: io::Result<&[u8]>) {
        self.has_input_ended = read.map_or(true, <[u8]>::is_empty);
        if self.has_input_ended {
            self.end.resolve();
        }
    }
}
