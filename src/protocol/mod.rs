//! What goes over the wire, as typed values with the names of `docs/protocol.md`: frames to and from clients, close
//! codes, HTTP problems. It knows only `domain`; sockets and HTTP are elsewhere.

mod alarm_body;
mod alarm_client_frame;
mod close;
mod json;
mod problem;
mod room_client_frame;
mod room_frame;
mod server_frame;

pub use alarm_body::AlarmBody;
pub use alarm_client_frame::{AlarmClientFrame, FrameError};
pub use close::Close;
pub use json::to_json;
pub use problem::{Code, Outcome, Problem};
pub use room_client_frame::{LONGEST_FRAME_BYTES, RoomAction, RoomClientFrame};
pub use room_frame::RoomFrame;
pub use server_frame::ServerFrame;
