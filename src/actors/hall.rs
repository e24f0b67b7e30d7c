//! A room with what is to be told in it: what has been gathered for its sockets, who has been told to be there, and with
//! several nodes the course of its events.

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use tokio::sync::oneshot;

use super::{course::Course, room::Room, shard::RoomOrder};
use crate::{domain::User, store::RoomNews};

/// In larger rooms comings and goings are gathered for so long per thousand sockets, at most a second: ten thousand who
/// come in one after another are fifty million frames, which must not keep anybody's bid waiting.
const GATHER_MS_PER_THOUSAND: usize = 100;
const GATHER_AT_MOST: Duration = Duration::from_secs(1);

/// How far a room is in hearing other nodes. Off for as long as there is one node.
#[derive(Default)]
pub(super) struct Hearing {
    /// Which beginning this is: what an earlier one finds out means nothing.
    pub generation: u64,
    /// The channel is held.
    pub is_held: bool,
    /// The course is being begun.
    pub is_beginning: bool,
    /// From here on everything is told once and in order.
    pub course: Option<Course>,
    /// What was heard before the course has begun.
    pub early: Vec<RoomNews>,
    /// Sockets that wait for it; told whether they hear everything from now on.
    pub waiting: Vec<oneshot::Sender<bool>>,
    /// The store is being read, or will be.
    pub is_catching_up: bool,
}

pub(super) struct Hall {
    pub room: Room,
    /// Who is in the room as far as it has been told: what a page shows must go with the frames that follow it.
    told: Arc<[Arc<User>]>,
    /// Somebody has come or gone since.
    is_stale: bool,
    /// The auction is over: nothing here to recommend.
    pub is_over: bool,
    /// Comings and goings that have not been told.
    pub gathered: BytesMut,
    pub gathering: bool,
    pub hearing: Hearing,
}

impl Hall {
    pub(super) fn new(is_over: bool) -> Self {
        Self {
            room: Room::default(),
            told: Arc::from([]),
            is_stale: false,
            is_over,
            gathered: BytesMut::new(),
            gathering: false,
            hearing: Hearing::default(),
        }
    }

    pub(super) fn gather_for(&self) -> Duration {
        let ms = self.room.sockets() * GATHER_MS_PER_THOUSAND / 1000;
        Duration::from_millis(ms as u64).min(GATHER_AT_MOST)
    }

    /// Somebody has come or gone, for which there is a frame if somebody is here to hear it.
    pub(super) fn gather(&mut self, frame: &[u8]) {
        self.gathered.extend_from_slice(frame);
        self.is_stale = true;
    }

    /// What has been gathered, which is told with this.
    pub(super) fn take_gathered(&mut self) -> Option<RoomOrder> {
        let bytes = std::mem::take(&mut self.gathered).freeze();
        if !bytes.is_empty() {
            // Now: whoever asks later may ask when others have come or gone of whom nobody has been told.
            self.look_who_is_here();
        }
        (!bytes.is_empty()).then_some(RoomOrder::Frame { bytes, id: 0 })
    }

    /// Who is in the room as far as it has been told.
    pub(super) fn told(&mut self) -> &Arc<[Arc<User>]> {
        if self.is_stale && self.gathered.is_empty() {
            self.look_who_is_here();
        }
        &self.told
    }

    fn look_who_is_here(&mut self) {
        self.is_stale = false;
        self.told = self.room.users().map(Arc::clone).collect();
    }

    /// Nobody is here to hear anything any more.
    pub(super) fn stop_hearing(&mut self) {
        self.hearing = Hearing { generation: self.hearing.generation, ..Hearing::default() };
        self.gathered.clear();
    }
}
