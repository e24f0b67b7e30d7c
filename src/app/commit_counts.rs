//! Counts what this node commits: alarms by kind, events of auctions. Nodes can be added up, because each commit is
//! counted where it is made.

use crate::{
    domain::AlarmKind,
    metrics::{CounterSet, Registry},
    store::RoomEvent,
};

const EVENTS: [&str; 5] = ["started", "extended", "sold", "unsold", "cancelled"];

/// Counts since the start. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct CommitCounts {
    /// An alarm counts once for each receiver.
    alarms: CounterSet,
    events: CounterSet,
}

impl Default for CommitCounts {
    fn default() -> Self {
        let alarms = CounterSet::by("kind", AlarmKind::ALL.map(AlarmKind::name));
        Self { alarms, events: CounterSet::by("event", EVENTS) }
    }
}

impl CommitCounts {
    /// Counts an alarm that is stored in this many inboxes.
    pub(super) fn alarm(&self, kind: AlarmKind, receivers: usize) {
        self.alarms.add(kind as usize, receivers as u64);
    }

    /// Counts an event of an auction that is stored. Bids are counted with their answers.
    pub(super) fn event(&self, event: &RoomEvent) {
        let index = match event {
            RoomEvent::Started(_) => 0,
            RoomEvent::Extended { .. } => 1,
            RoomEvent::Ended { buyer: Some(_), .. } => 2,
            RoomEvent::Ended { buyer: None, .. } => 3,
            RoomEvent::Cancelled { .. } => 4,
            _ => return,
        };
        self.events.add(index, 1);
    }

    /// Adds the counts to the metrics.
    pub(super) fn register(&self, to: &mut Registry) {
        let help = "Alarms stored, one for each receiver who has not muted its kind";
        to.register("alarms", help, self.alarms.clone());
        to.register("auction_events", "Starts, moved ends, and ends of auctions", self.events.clone());
    }
}
