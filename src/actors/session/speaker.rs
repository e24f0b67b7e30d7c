//! What the sockets of auction and trade rooms have in common: somebody speaks at a pace, and a refusal goes to him
//! alone.

use std::sync::Arc;

use super::{Pace, Role, Session};
use crate::{
    actors::{hub::AlertUser, wire::encode},
    domain::{Locale, User},
    protocol::{Close, Code, Problem, RoomFrame, Spoken},
};

/// Where the author of a frame hears that it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// On this socket and on his alarm sockets.
    Here,
    /// On his alarm sockets only: this one shows every frame as a message.
    Elsewhere,
}

impl<R: Role> Session<R> {
    /// Tells the author of a refused frame, and nobody else.
    pub(super) fn alert(&self, problem: &Problem, locale: Locale, heard: Heard) {
        let frame = encode(&RoomFrame::alert(problem, locale));
        if heard == Heard::Here {
            self.outbox.borrow_mut().control(frame.clone());
        }
        if let Some(signed) = self.opening.signed {
            self.opening.hub.do_send(AlertUser { user: signed.user, frame });
        }
    }

    /// Reads a frame and who says it, if it is JSON, not too fast, and no visitor's. Refuses it otherwise.
    pub(super) fn listen(&self, text: &str, locale: Locale, heard: Heard) -> Option<(Spoken, Arc<User>)> {
        let Ok(spoken) = Spoken::parse(text) else {
            self.close(Close::NotJson);
            return None;
        };
        let doorkeeper = &self.opening.doorkeeper;
        let pace = if spoken.is_bid() { doorkeeper.bid_pace() } else { doorkeeper.line_pace() };
        let user = doorkeeper.user();
        match (pace, user) {
            (Pace::Flood, _) => self.close(Close::TooManyFrames),
            (Pace::TooFast, _) => self.alert(&Problem::too_many_requests(1), locale, heard),
            (Pace::Fine, None) => {
                self.alert(&Problem::new(Code::Unauthorized, "a token is needed"), locale, heard);
            }
            (Pace::Fine, Some(user)) if !user.is_active => self.close(Close::TokenRefused),
            (Pace::Fine, Some(user)) => return Some((spoken, user)),
        }
        None
    }
}
