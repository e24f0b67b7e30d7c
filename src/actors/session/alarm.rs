//! The alarm socket: handles the client's `ack`, `read`, `ping` and `auth` frames. The alarms that it sends come from
//! `backlog` and the hub.

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
    actors::delivery::read_state,
    protocol::{AlarmClientFrame, Close, ServerFrame},
    store::writes::ReadAlarms,
};

/// The least time between two writes of what a client has read.
const MARK_READ_INTERVAL: Duration = Duration::from_millis(100);

/// The state of an alarm socket.
struct AlarmRole {
    alarms: AlarmContext,
    /// The last alarm that the client has read, if that is not written yet.
    read_up_to: Option<i64>,
    /// Whether a write is under way, or the pause after it.
    is_marking: bool,
}

/// Opens an alarm socket.
pub(crate) fn alarm_socket(
    context: SessionContext,
    alarms: AlarmContext,
    handshake: HttpResponseBuilder,
) -> HttpResponse {
    let registration = Registration::for_alarms(&context, alarms.user);
    let receipts = (alarms.user, context.shard.receipts.clone());
    let role = AlarmRole { alarms, read_up_to: None, is_marking: false };
    upgrade(context, registration, role, Some(receipts), handshake)
}

impl Session<AlarmRole> {
    /// Writes what the client has read. What it reads during the write or the pause after it goes into the next write,
    /// so a client costs the ledger a few writes a second however many frames it sends.
    fn mark_read(&mut self, ctx: &mut Ctx<AlarmRole>) {
        if self.role.is_marking {
            return;
        }
        let Some(up_to) = self.role.read_up_to.take() else { return };
        self.role.is_marking = true;
        let AlarmContext { ledger, store, user, .. } = &self.role.alarms;
        let hub = self.context.hub.clone();
        let marking = read_state::mark_read(ledger.clone(), store.clone(), hub, *user, ReadAlarms::UpTo(up_to));
        let user = *user;
        ctx.spawn(marking.into_actor(self).map(move |marked, _, ctx| {
            if let Err(error) = marked {
                log::debug!(user = user.get(), error:%; "alarms could not be marked as read");
            }
            ctx.run_later(MARK_READ_INTERVAL, |session, ctx| {
                session.role.is_marking = false;
                session.mark_read(ctx);
            });
        }));
    }

    /// Replaces the socket's token by a newer one of the same user.
    fn renew_token(&mut self, token: String, ctx: &mut Ctx<AlarmRole>) {
        let checked = self.context.auth.authenticate(token);
        ctx.wait(checked.into_actor(self).map(|outcome, session, ctx| match outcome {
            AuthOutcome::Valid(fresh) if fresh.user == session.role.alarms.user => {
                session.context.authenticated = Some(fresh);
                session.send(&ServerFrame::Auth { exp: fresh.expires_at.secs() });
                session.watch_expiry(ctx);
            }
            AuthOutcome::Valid(_) | AuthOutcome::Invalid => session.close(Close::TokenRefused),
            // The token may be valid. The socket stays open until the old one expires, and the client tries again.
            AuthOutcome::Unavailable => {}
        }));
    }
}

impl Role for AlarmRole {
    fn started(session: &mut Session<Self>, ctx: &mut Ctx<Self>) {
        let backlog = Backlog::new(&session.context, &session.role.alarms, Rc::clone(&session.registration));
        ctx.spawn(backlog.run().into_actor(session));
    }

    fn text(session: &mut Session<Self>, text: &str, ctx: &mut Ctx<Self>) {
        match AlarmClientFrame::parse(text) {
            Ok(AlarmClientFrame::Ack(up_to)) => session.liveness.acknowledge(up_to),
            Ok(AlarmClientFrame::Read(up_to)) => {
                session.role.read_up_to = session.role.read_up_to.max(Some(up_to).filter(|up_to| *up_to > 0));
                session.mark_read(ctx);
            }
            Ok(AlarmClientFrame::Ping) => session.send(&ServerFrame::Pong { server_time: session.context.time.now() }),
            Ok(AlarmClientFrame::Auth(token)) => session.renew_token(token, ctx),
            Ok(AlarmClientFrame::Unknown) => {}
            Err(_) => session.close(Close::NotJson),
        }
    }
}
