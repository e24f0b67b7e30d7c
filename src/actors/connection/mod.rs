//! One client connection after its WebSocket upgrade. This layer moves bytes and frames without their meaning.
//!
//! - `socket`: what to write next, when to close, and how the session's actor is polled.
//! - `reader`: reads what the client sends. It handles pongs itself and passes the rest to the actor.
//! - `frame_limit`: refuses oversized and illegal frames at their header.
//! - `fragments`: joins a message that arrives in several frames.
//! - `liveness`: when the client last sent something, and which alarms it has confirmed.

pub(crate) mod fragments;
pub(crate) mod frame_limit;
pub(crate) mod liveness;
pub(crate) mod reader;
pub(crate) mod socket;
