//! What goes over the wire, as typed values with the names of `docs/protocol.md`: frames to and from clients, close
//! codes, HTTP problems. It knows only `domain`; sockets and HTTP are elsewhere.
//!
//! - `alarm_body`: an alarm as JSON; its texts are in `domain::alarm`
//! - `alarm_client_frame`, `room_client_frame`: frames from clients, parsed
//! - `room_frame`, `server_frame`: frames of rooms, and of all sockets
//! - `close`, `problem`: close codes, and the codes of HTTP problems
//! - `json`: bodies that are read and written

mod alarm_body;
mod alarm_client_frame;
mod close;
mod json;
mod problem;
mod room_client_frame;
mod room_frame;
mod server_frame;

pub(crate) use alarm_body::AlarmBody;
pub(crate) use alarm_client_frame::{AlarmClientFrame, FrameError};
pub(crate) use close::Close;
pub(crate) use json::to_json;
pub(crate) use problem::{Code, Outcome, Problem};
pub(crate) use room_client_frame::{LONGEST_FRAME_BYTES, RoomAction, RoomClientFrame};
pub(crate) use room_frame::{EndReason, RoomFrame};
pub(crate) use server_frame::ServerFrame;
