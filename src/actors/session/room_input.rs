//! What the sockets of auction and trade rooms have in common: somebody speaks at a pace, and a refusal goes to him
//! alone.

use std::sync::Arc;

use super::{RateVerdict, Role, Session};
use crate::{
    actors::delivery::{alarm_hub::AlertUser, encode::encode},
    domain::User,
    protocol::{Close, Code, Problem, RoomFrame, Spoken},
};

/// Where the author of a frame hears that it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// On this socket and on his alarm sockets.
    Here,
    /// On his alarm sockets only: this one shows every frame as a message.
    Elsewhere,
}

impl<R: Role> Session<R> {
    /// Tells the author of a refused frame, and nobody else.
    pub(crate) fn alert(&self, problem: &Problem, heard: Heard) {
        let frame = encode(&RoomFrame::alert(problem, self.opening.doorkeeper.locale()));
        if heard == Heard::Here {
            self.outbox.borrow_mut().control(frame.clone());
        }
        if let Some(signed) = self.opening.signed {
            self.opening.hub.do_send(AlertUser { user: signed.user, frame });
        }
    }

    /// Reads a frame and who says it, if it is JSON, no visitor's, and not too fast. Refuses it otherwise. Whoever may not
    /// speak any more is not listened to, however far the order to close his socket has come.
    pub(crate) fn listen<'a>(&self, text: &'a str, heard: Heard) -> Option<(Spoken<'a>, Arc<User>)> {
        let Ok(spoken) = Spoken::parse(text) else {
            self.close(Close::NotJson);
            return None;
        };
        let doorkeeper = &self.opening.doorkeeper;
        let pace = if spoken.is_bid() { doorkeeper.bid_pace() } else { doorkeeper.line_pace() };
        let expired = self.opening.signed.is_some_and(|signed| self.opening.time.now() >= signed.expires_at);
        let user = doorkeeper.user();
        match (pace, user) {
            (_, Some(user)) if expired || !user.is_active => self.close(Close::TokenRefused),
            (RateVerdict::Flood, _) => self.close(Close::TooManyFrames),
            // As over HTTP: first who somebody is, then how fast.
            (_, None) => self.alert(&Problem::new(Code::Unauthorized, "a token is needed"), heard),
            (RateVerdict::TooFast, Some(_)) => self.alert(&Problem::too_many_requests(1), heard),
            (RateVerdict::Fine, Some(_)) if !doorkeeper.may_write() => {
                self.alert(&Problem::unavailable("not stored; try again"), heard);
            }
            (RateVerdict::Fine, Some(user)) => return Some((spoken, user)),
        }
        None
    }
}
