//! One client connection after its upgrade, from the response head to the last byte. This layer moves bytes and frames
//! without their meaning.
//!
//! - `connection`: the task that moves bytes between a source and the socket.
//! - `closing`: the states of a connection, how it closes, and how long the client may take for that.
//! - `socket_session`: the source of a WebSocket: what to write next, and how the session's actor is polled.
//! - `reader`: reads what the client sends. It handles pongs itself and passes the rest to the actor.
//! - `frame_limit`: refuses oversized and illegal frames at their header.
//! - `fragments`: joins a message that arrives in several frames.
//! - `liveness`: when the client last sent something, and which alarms it has confirmed.

mod closing;
#[allow(clippy::module_inception)] // The file is named after `Connection`.
pub(crate) mod connection;
pub(crate) mod fragments;
pub(crate) mod frame_limit;
pub(crate) mod liveness;
pub(crate) mod reader;
pub(crate) mod socket_session;
