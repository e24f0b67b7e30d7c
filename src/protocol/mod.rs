//! What goes over the wire, as typed values: frames in and out, close codes, problem codes.
//! Knows only `domain`; sockets and HTTP are elsewhere. The names are those of `docs/protocol.md`.

mod alarm_body;
mod client_frame;
mod close;
mod json;
mod problem;
mod room_client_frame;
mod room_frame;
mod server_frame;

pub use alarm_body::AlarmBody;
pub use client_frame::{AlarmSocketFrame, FrameError};
pub use close::Close;
pub use json::to_json;
pub use problem::{Code, Outcome, Problem};
pub use room_client_frame::{LONGEST_FRAME, Said, Spoken};
pub use room_frame::RoomFrame;
pub use server_frame::ServerFrame;
