//! What the sockets of auction rooms and trade chats share: which frames they accept, and alerts that tell the author
//! of a frame why it was refused.

use std::sync::Arc;

use super::{RateVerdict, Role, Session};
use crate::{
    actors::delivery::{alarm_hub::AlertUser, encode::encode},
    domain::User,
    protocol::{Close, Code, Problem, RoomClientFrame, RoomFrame},
};

/// Which sockets of its author receive the alert about a refused frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AlertTo {
    /// This socket and their alarm sockets.
    ThisSocketToo,
    /// Only their alarm sockets, because the existing client shows every frame of this socket as a message.
    AlarmSocketsOnly,
}

impl<R: Role> Session<R> {
    /// Sends the author of a refused frame the reason.
    pub(crate) fn alert(&self, problem: &Problem, to: AlertTo) {
        let frame = encode(&RoomFrame::alert(problem, self.context.auth.locale()));
        if to == AlertTo::ThisSocketToo {
            self.outbox.borrow_mut().control(frame.clone());
        }
        if let Some(token) = self.context.authenticated {
            self.context.hub.do_send(AlertUser { user: token.user, frame });
        }
    }

    /// Parses a frame and returns it with its author. Returns `None` if the frame is refused: it is not JSON, comes
    /// from a visitor, comes too fast, or its author's row is not stored. A user whose token has expired or who is
    /// inactive is refused here too, although the order to close their socket may still be on its way.
    pub(crate) fn accept_frame<'a>(&self, text: &'a str, to: AlertTo) -> Option<(RoomClientFrame<'a>, Arc<User>)> {
        let Ok(frame) = RoomClientFrame::parse(text) else {
            self.close(Close::NotJson);
            return None;
        };
        let auth = &self.context.auth;
        let rate = if frame.is_bid() { auth.count_bid() } else { auth.count_line() };
        let user = auth.user();
        match (rate, user) {
            (_, Some(user)) if self.context.has_expired() || !user.is_active => self.close(Close::TokenRefused),
            (RateVerdict::Flood, _) => self.close(Close::TooManyFrames),
            // As over HTTP, a missing token is reported before a rate.
            (_, None) => self.alert(&Problem::new(Code::Unauthorized, "a token is required to bid or speak"), to),
            (RateVerdict::TooFast, Some(_)) => self.alert(&Problem::too_many_requests(1), to),
            (RateVerdict::Fine, Some(_)) if !auth.may_write() => {
                self.alert(&Problem::unavailable("the user is not stored yet; try again"), to);
            }
            (RateVerdict::Fine, Some(user)) => return Some((frame, user)),
        }
        None
    }
}
