//! Requests for an upgrade. The app answers one like any other request. Then the connection leaves HTTP: it goes on with
//! the session that the response holds, or ends with the response.

use std::{convert::Infallible, rc::Rc};

use actix_codec::{Encoder, Framed};
use actix_http::{
    ConnectionType, HttpMessage, Method, Payload, Request, Response,
    body::{BodySize, BoxBody, MessageBody},
    h1::{Codec, Message},
};
use actix_web::{
    Error,
    dev::{Service, ServiceResponse},
};

use super::http_connection::HttpConnection;
use crate::actors::{ByteSource, SocketSession};

/// Marks requests that came through the upgrade service. Only their responses may hold a session: the connections of
/// other requests stay with HTTP.
pub(super) struct MayUpgrade;

/// Lets the app answer an upgrade request, and spawns a task that serves the connection from then on.
///
/// # Errors
/// None. If the response cannot be encoded, the connection is dropped.
pub(crate) async fn take_over<A, B>(
    app: Rc<A>,
    (request, framed): (Request, Framed<HttpConnection, Codec>),
) -> Result<(), Infallible>
where
    A: Service<Request, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody + 'static,
{
    let mut parts = framed.into_parts();
    // An upgrade request has no body: the bytes behind it belong to the new protocol.
    let (request, _) = request.replace_payload(Payload::None);
    request.extensions_mut().insert(MayUpgrade);
    let is_head = request.method() == Method::HEAD;
    let mut response: Response<BoxBody> = match app.call(request).await {
        Ok(response) => Response::from(response.map_into_boxed_body()),
        Err(error) => Response::from(error),
    };
    drop(app);
    let session = response.extensions_mut().remove::<SocketSession>();
    if session.is_none() {
        // The response ends with the connection.
        let head = response.head_mut();
        head.set_connection_type(ConnectionType::Close);
        head.no_chunking(true);
    }
    let (head, body) = response.into_parts();
    let size = if session.is_some() { BodySize::None } else { body.size() };
    if let Err(error) = parts.codec.encode(Message::Item((head, size)), &mut parts.write_buf) {
        log::debug!(error:%; "a response to an upgrade request could not be encoded");
        return Ok(());
    }
    let (mut connection, head) = (parts.io, parts.write_buf.freeze());
    match session {
        Some(mut session) => {
            if !parts.read_buf.is_empty() {
                session.receive(Ok(&parts.read_buf));
            }
            connection.leave_http(session, head);
        }
        None => connection.end_with(if is_head { BoxBody::new(()) } else { body }, head),
    }
    Ok(())
}
