//! A room with what is to be told in it: what has been gathered for its sockets, who has been told to be there, and with
//! several nodes the course of its events.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::sync::oneshot;

use super::{course::Course, room::Room, shard::RoomOrder};
use crate::{
    domain::{User, UserId},
    store::RoomNews,
};

/// In larger rooms comings and goings are gathered for so long per thousand sockets, at most a second: ten thousand who
/// come in one after another are fifty million frames, which must not keep anybody's bid waiting.
const GATHER_MS_PER_THOUSAND: usize = 100;
const GATHER_AT_MOST: Duration = Duration::from_secs(1);
const GATHER_AT_LEAST: Duration = Duration::from_millis(20);

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

/// A coming or a going, as a page that shows who is there must follow it.
pub(super) enum Moved {
    Came(Arc<User>),
    Went(UserId),
}

pub(super) struct Hall {
    pub room: Room,
    /// Who is in the room as far as it has been told: what a page shows must go with the frames that follow it.
    told: BTreeMap<UserId, Arc<User>>,
    /// The same as a list, until it changes.
    list: Option<Arc<[Arc<User>]>>,
    /// The auction is over: nothing here to recommend.
    pub is_over: bool,
    /// Comings and goings that have not been told.
    gathered: VecDeque<(Bytes, Moved)>,
    gathered_bytes: usize,
    pub gathering: bool,
    pub hearing: Hearing,
}

impl Hall {
    pub(super) fn new(is_over: bool) -> Self {
        Self {
            room: Room::default(),
            told: BTreeMap::new(),
            list: None,
            is_over,
            gathered: VecDeque::new(),
            gathered_bytes: 0,
            gathering: false,
            hearing: Hearing::default(),
        }
    }

    /// How long comings and goings are gathered. As many as are in the room, on whichever node, can go at once.
    pub(super) fn gather_for(&self) -> Duration {
        let ms = self.size() * GATHER_MS_PER_THOUSAND / 1000;
        Duration::from_millis(ms as u64).clamp(GATHER_AT_LEAST, GATHER_AT_MOST)
    }

    /// How many have something to do with this room: sockets here, users anywhere.
    pub(super) fn size(&self) -> usize {
        self.room.sockets().max(self.room.participants())
    }

    /// Somebody has come or gone: what is to be told of it, if somebody is here to hear it.
    pub(super) fn gather(&mut self, frame: Bytes, moved: Moved) {
        if self.room.sockets() == 0 {
            self.drop_gathered();
            return self.is_told(moved);
        }
        self.gathered_bytes += frame.len();
        self.gathered.push_back((frame, moved));
    }

    fn is_told(&mut self, moved: Moved) {
        self.list = None;
        match moved {
            Moved::Came(user) => drop(self.told.insert(user.id, user)),
            Moved::Went(user) => drop(self.told.remove(&user)),
        }
    }

    /// Bytes that have been gathered and not told.
    pub(super) fn gathered_bytes(&self) -> usize {
        self.gathered_bytes
    }

    /// What has been gathered, in order, up to so many bytes.
    pub(super) fn take_gathered(&mut self, at_most: usize) -> Option<RoomOrder> {
        let mut bytes = BytesMut::new();
        while let Some((frame, moved)) = self.gathered.pop_front() {
            if !bytes.is_empty() && bytes.len() + frame.len() > at_most {
                self.gathered.push_front((frame, moved));
                break;
            }
            bytes.extend_from_slice(&frame);
            self.is_told(moved);
        }
        self.gathered_bytes -= bytes.len();
        (!bytes.is_empty()).then(|| RoomOrder::Frame { bytes: bytes.freeze(), id: 0 })
    }

    /// How many are in the room as far as it has been told.
    pub(super) fn count(&self) -> usize {
        self.told.len()
    }

    /// Who they are, by id.
    pub(super) fn list(&mut self) -> Arc<[Arc<User>]> {
        Arc::clone(self.list.get_or_insert_with(|| self.told.values().map(Arc::clone).collect()))
    }

    /// Nobody is here to hear anything any more.
    pub(super) fn stop_hearing(&mut self) {
        // Generations begin with 1: whatever an earlier one finds out means nothing any more.
        self.hearing = Hearing::default();
        self.drop_gathered();
    }

    /// There is nobody to tell it to.
    fn drop_gathered(&mut self) {
        while let Some((_, moved)) = self.gathered.pop_front() {
            self.is_told(moved);
        }
        self.gathered_bytes = 0;
    }
}
