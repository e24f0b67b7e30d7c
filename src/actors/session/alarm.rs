//! The alarm socket: acks, read marks, fresh tokens. What it sends is the `backlog`'s and the hub's.

use std::{rc::Rc, time::Duration};

use actix::prelude::*;
use actix_web::{HttpResponse, HttpResponseBuilder};

use super::{
    Ctx, Role, Session, SessionContext,
    backlog::{AlarmContext, Backlog},
    context::{AuthOutcome, Registration},
    upgrade,
};
use crate::{
    actors::delivery::read_state::mark_read,
    protocol::{AlarmSocketFrame, Close, ServerFrame},
    store::writes::ReadAlarms,
};

/// Between two writes of what a client has read.
const READ_PAUSE: Duration = Duration::from_millis(100);

/// What an alarm socket knows.
struct AlarmRole {
    alarms: AlarmContext,
    /// Read up to here, not yet written; and whether that is under way or soon will be.
    read_up_to: i64,
    reading: bool,
}

/// Opens an alarm socket.
pub fn alarm_socket(opening: SessionContext, alarms: AlarmContext, handshake: HttpResponseBuilder) -> HttpResponse {
    let place = Registration::for_alarms(&opening, alarms.user);
    let receipts = (alarms.user, opening.shard.receipts.clone());
    let role = AlarmRole { alarms, read_up_to: 0, reading: false };
    upgrade(opening, place, role, Some(receipts), handshake)
}

impl Session<AlarmRole> {
    /// Writes what was read, and what is read meanwhile in one go after a pause: however many frames a client sends,
    /// they cost the ledger a few entries a second.
    fn write_read(&mut self, ctx: &mut Ctx<AlarmRole>) {
        if self.role.reading || self.role.read_up_to == 0 {
            return;
        }
        self.role.reading = true;
        let up_to = std::mem::take(&mut self.role.read_up_to);
        let AlarmContext { ledger, store, user, .. } = &self.role.alarms;
        let hub = self.opening.hub.clone();
        let marking = mark_read(ledger.clone(), store.clone(), hub, *user, ReadAlarms::UpTo(up_to));
        ctx.spawn(marking.into_actor(self).map(|marked, _, ctx| {
            if let Err(error) = marked {
                log::debug!("alarms could not be marked as read: {error}");
            }
            ctx.run_later(READ_PAUSE, |session, ctx| {
                session.role.reading = false;
                session.write_read(ctx);
            });
        }));
    }

    fn renew(&mut self, token: String, ctx: &mut Ctx<AlarmRole>) {
        let judged = self.opening.doorkeeper.authenticate(token);
        ctx.wait(judged.into_actor(self).map(|judged, session, ctx| match judged {
            AuthOutcome::Good(fresh) if fresh.user == session.role.alarms.user => {
                session.opening.signed = Some(fresh);
                session.send(&ServerFrame::Auth { exp: fresh.expires_at.secs() });
                session.watch_expiry(ctx);
            }
            AuthOutcome::Good(_) | AuthOutcome::Refused => session.close(Close::TokenRefused),
            // The token may be good: the socket stays for as long as the old one holds, and the client asks again.
            AuthOutcome::Unknown => {}
        }));
    }
}

impl Role for AlarmRole {
    fn started(session: &mut Session<Self>, ctx: &mut Ctx<Self>) {
        let feed = Backlog::new(&session.opening, &session.role.alarms, Rc::clone(&session.place));
        ctx.spawn(feed.run().into_actor(session));
    }

    fn text(session: &mut Session<Self>, text: &str, ctx: &mut Ctx<Self>) {
        match AlarmSocketFrame::parse(text) {
            Ok(AlarmSocketFrame::Ack(up_to)) => session.proof.acknowledged(up_to),
            Ok(AlarmSocketFrame::Read(up_to)) => {
                session.role.read_up_to = session.role.read_up_to.max(up_to);
                session.write_read(ctx);
            }
            Ok(AlarmSocketFrame::Ping) => session.send(&ServerFrame::Pong { server_time: session.opening.time.now() }),
            Ok(AlarmSocketFrame::Auth(token)) => session.renew(token, ctx),
            Ok(AlarmSocketFrame::Unknown) => {}
            Err(_) => session.close(Close::NotJson),
        }
    }
}
