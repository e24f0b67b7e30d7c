//! What the delivery of alarms and room frames counts and measures. Each worker has its own [`WorkerStats`] for what
//! happens at every delivery, so that workers don't contend for a counter.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use crate::{
    actors::room_id::RoomId,
    metrics::{Counter, CounterSet, Gauge, Histogram, MergedTimes, ReadCounter, ReadGauge, Registry},
    protocol::Close,
};

/// Counters shared by the hub, the rooms and all shards of the node. All but `open` and `users` count from the start.
#[derive(Debug, Default)]
pub(crate) struct ShardStats {
    /// Sessions open now, registered or not.
    pub open: AtomicUsize,
    /// Users with a session.
    pub users: Gauge,
    pub sessions: SessionCounts,
    /// Alarm frames put into outboxes.
    pub queued: Counter,
    /// Unread counts and alerts lost to a full mailbox of a shard.
    pub untold: Counter,
    /// Room frames put into outboxes.
    pub room_frames: Counter,
    /// Sockets closed because a full mailbox lost a frame of their room.
    pub closed_for_missing: Counter,
    /// Sessions closed because their outbox was full.
    pub overflows: Counter,
    /// Sessions closed because their client read nothing for too long.
    pub slow: Counter,
    /// Sessions closed because their user opened newer ones.
    pub evicted: Counter,
    /// Times that a full mailbox, the hub's or a shard's, made sessions read the store.
    pub resyncs: Counter,
    /// Times that an inbox check found a session without an alarm of another node, and made it read the store.
    pub behind: Counter,
    /// Times that a room read from the store what the bus had not brought, or brought too late.
    pub room_gaps: Counter,
    workers: Mutex<Vec<Arc<WorkerStats>>>,
}

/// Figures about the outboxes of one worker.
#[derive(Debug, Default)]
pub(crate) struct WorkerStats {
    /// Frames that wait in its outboxes now.
    pub waiting: AtomicUsize,
    /// Reads of a session's backlog.
    pub backlog_reads: Counter,
    /// Alarms that these brought.
    pub replayed: Counter,
    /// From the commit of an alarm until a socket takes it: once for all that it takes at once, for the oldest.
    pub to_socket: Histogram,
    /// From the commit of an alarm until its receipt is proved: once for each proof, for the oldest.
    pub to_receipt: Histogram,
}

/// Sessions opened, by kind, and ended, by close code.
#[derive(Debug)]
pub(crate) struct SessionCounts {
    opened: CounterSet,
    ended: CounterSet,
}

/// How a session has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionEnd {
    Server(Close),
    /// The client has sent a close frame, with this code if it has one.
    Client(Option<u16>),
    /// The connection has ended without a close frame.
    Lost,
}

/// The codes of clients that have a count of their own; the last is that of a close frame without one.
const CLIENT_CODES: [u16; 3] = [1000, 1001, 1005];
/// RFC 6455's code of a connection that ended without a close frame.
const LOST_CODE: u16 = 1006;

impl Default for SessionCounts {
    fn default() -> Self {
        let labels = |code: String, by: &str| vec![("code", code), ("by", by.to_owned())];
        let server = Close::ALL.iter().map(|close| labels(close.code().to_string(), "server"));
        let clients = CLIENT_CODES.iter().map(|code| labels(code.to_string(), "client"));
        let others = [labels("other".to_owned(), "client"), labels(LOST_CODE.to_string(), "client")];
        Self {
            opened: CounterSet::by("kind", ["alarms", "auction", "trade"]),
            ended: CounterSet::new(server.chain(clients).chain(others)),
        }
    }
}

impl SessionCounts {
    /// A session has opened, in this room if it is in one.
    pub(crate) fn opened(&self, room: Option<RoomId>) {
        let kind = match room {
            None => 0,
            Some(RoomId::Auction(_)) => 1,
            Some(RoomId::Trade(_)) => 2,
        };
        self.opened.add(kind, 1);
    }

    /// A session has ended.
    pub(crate) fn ended(&self, end: SessionEnd) {
        let (all, clients) = (Close::ALL.len(), CLIENT_CODES.len());
        let index = match end {
            SessionEnd::Server(close) => Close::ALL.iter().position(|one| one.code() == close.code()).unwrap_or(all),
            SessionEnd::Client(code) => {
                let code = code.unwrap_or(1005);
                all + CLIENT_CODES.iter().position(|one| *one == code).unwrap_or(clients)
            }
            SessionEnd::Lost => all + clients + 1,
        };
        self.ended.add(index, 1);
    }
}

impl ShardStats {
    fn workers(&self) -> Vec<Arc<WorkerStats>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The figures of a new worker.
    pub(crate) fn add_worker(&self) -> Arc<WorkerStats> {
        let worker = Arc::<WorkerStats>::default();
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&worker));
        worker
    }

    /// Frames that wait in outboxes now.
    pub(crate) fn waiting(&self) -> usize {
        self.workers().iter().map(|worker| worker.waiting.load(Ordering::Relaxed)).sum()
    }

    /// Adds the figures to the metrics.
    pub(crate) fn register(self: &Arc<Self>, to: &mut Registry) {
        let stats = Arc::clone(self);
        let open = ReadGauge::new(move || stats.open.load(Ordering::Relaxed));
        to.register("sessions", "Open sockets and streams, visitors' included", open);
        to.register("users", "Users with an open socket or stream", self.users.clone());
        to.register("sessions_opened", "Sockets and streams opened", self.sessions.opened.clone());
        let help = "Sockets and streams ended, by close code and by who closed; 1006 without a close frame";
        to.register("sessions_closed", help, self.sessions.ended.clone());
        let stats = Arc::clone(self);
        to.register("frames_waiting", "Frames that wait for clients", ReadGauge::new(move || stats.waiting()));
        let counters = [
            ("alarm_frames", "Alarm frames handed to sessions", &self.queued),
            ("room_frames", "Room frames handed to sockets", &self.room_frames),
            ("frames_lost", "Unread counts and alerts lost to a full mailbox", &self.untold),
            ("room_sockets_closed_for_loss", "Sockets closed: a full mailbox lost a frame", &self.closed_for_missing),
            ("slow_clients_overflowed", "Sessions closed: too much waited for their client", &self.overflows),
            ("slow_clients_stalled", "Sessions closed: their client read nothing", &self.slow),
            ("sessions_evicted", "Sessions closed: their user opened newer ones", &self.evicted),
            ("resyncs", "Times that a full mailbox made sessions read the store", &self.resyncs),
            ("alarm_gaps", "Sessions that lacked an alarm of another node and read the store", &self.behind),
            ("room_gaps", "Times that a room read the store for what the bus had not brought", &self.room_gaps),
        ];
        for (name, help, counter) in counters {
            to.register(name, help, counter.clone());
        }
        let sum = |figure: fn(&WorkerStats) -> u64| {
            let stats = Arc::clone(self);
            ReadCounter::new(move || stats.workers().iter().map(|worker| figure(worker)).sum::<u64>())
        };
        to.register("backlog_reads", "Reads of a session's backlog", sum(|worker| worker.backlog_reads.get()));
        to.register("alarms_replayed", "Alarms sent from the store", sum(|worker| worker.replayed.get()));
        let times = |time: fn(&WorkerStats) -> &Histogram| {
            let stats = Arc::clone(self);
            MergedTimes::new(move || stats.workers().iter().map(|worker| time(worker).clone()).collect())
        };
        let help = "Time from an alarm's commit, or its arrival over the bus, until a socket takes it";
        to.register("alarm_socket_seconds", help, times(|worker| &worker.to_socket));
        let help = "Time from an alarm's commit, or its arrival over the bus, until its receipt is proved";
        to.register("alarm_receipt_seconds", help, times(|worker| &worker.to_receipt));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::GoodsId, metrics::Metrics};

    #[test]
    fn each_session_counts_once_by_its_kind_and_by_how_it_ended() {
        let stats = Arc::new(ShardStats::default());
        let goods = GoodsId::from_stored(1);
        for room in [None, None, Some(RoomId::Auction(goods)), Some(RoomId::Trade(goods))] {
            stats.sessions.opened(room);
        }
        for close in Close::ALL {
            stats.sessions.ended(SessionEnd::Server(close));
        }
        stats.sessions.ended(SessionEnd::Server(Close::Restarting { retry_ms: 77 }));
        for code in [Some(1000), Some(1001), None, Some(1005), Some(4000), Some(3), Some(1006)] {
            stats.sessions.ended(SessionEnd::Client(code));
        }
        stats.sessions.ended(SessionEnd::Lost);
        let mut metrics = Metrics::default();
        stats.register(metrics.of_service());
        let text = metrics.to_text();
        let shown =
            |labels: &str, count: u32| assert!(text.contains(&format!("_total{{{labels}}} {count}\n")), "{text}");
        shown("kind=\"alarms\"", 2);
        shown("kind=\"auction\"", 1);
        shown("kind=\"trade\"", 1);
        for close in Close::ALL {
            let count = if close.code() == 1012 { 2 } else { 1 };
            shown(&format!("code=\"{}\",by=\"server\"", close.code()), count);
        }
        for (code, count) in [("1000", 1), ("1001", 1), ("1005", 2), ("other", 3), ("1006", 1)] {
            shown(&format!("code=\"{code}\",by=\"client\""), count);
        }
    }
}
