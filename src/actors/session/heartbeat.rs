//! The heartbeat of a WebSocket: a ping at every interval, and the close of a client that has long been silent.

use std::time::Duration;

use actix::prelude::*;
use actix_http::ws::OpCode;

use super::{Ctx, Role, Session, SessionLimits};
use crate::protocol::Close;

impl<R: Role> Session<R> {
    /// Pings at every heartbeat, and closes when the client has been silent for too long.
    pub(super) fn watch_liveness(&self, ctx: &mut Ctx<R>) {
        let SessionLimits { heartbeat, timeout, .. } = self.context.limits;
        ctx.run_interval(heartbeat, |session, _| {
            // The wait for the expiry does not notice when the clock is set forward.
            session.close_if_expired();
            let number = session.outbox.borrow().ping_number();
            session.send_control(number.to_string().as_bytes(), OpCode::Ping);
        });
        self.watch_silence(timeout, ctx);
    }

    fn watch_silence(&self, wait: Duration, ctx: &mut Ctx<R>) {
        ctx.run_later(wait, |session, ctx| {
            let silent = session.liveness.silent_for();
            match session.context.limits.timeout.checked_sub(silent) {
                Some(left) if !left.is_zero() => session.watch_silence(left, ctx),
                _ => session.close(Close::Silent),
            }
        });
    }
}
