//! The connections to Redis, on a thread of their own: one that hears, one that tells. Each comes back by itself.

use std::{
    cell::Cell,
    sync::{Arc, atomic::Ordering},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use redis::{
    AsyncConnectionConfig, Msg, RedisError, RedisResult,
    aio::{MultiplexedConnection, PubSub, PubSubSink},
};
use tokio::{sync::mpsc, time::timeout};

use super::{
    Channel, Counting, Ears, Heard, NodeId, Shared, locked,
    message::{self, AnyChannel, BusMessage, Outgoing},
    subscriptions::Steps,
};
use crate::{
    domain::{Alarm, Receiver},
    outage::Outage,
};

/// How long a connection may take, and an answer on one.
const CONNECT: Duration = Duration::from_secs(1);
const ANSWER: Duration = Duration::from_secs(2);
/// Between two tries to connect.
const RETRY: Duration = Duration::from_millis(250);
/// How often this node says that it lives.
const BEAT: Duration = Duration::from_secs(1);
/// Its own word comes back to it sooner than this, or nothing does.
const DEAF_AFTER: Duration = Duration::from_secs(4);
/// For how long a beat keeps a node's counts of sockets.
pub(super) const COUNTS_LIVE_MS: u64 = 3500;
/// After so long without a beat they may be gone, though the connection is not: this node has stood still.
const STOOD_STILL: Duration = Duration::from_secs(3);
/// Messages of one round trip.
const BATCH: usize = 512;
/// Channels of one subscription.
const CHANNELS: usize = 500;
/// Receivers to whom an alarm is told without asking first who of them is anywhere.
const FEW: usize = 8;

/// Starts the thread. It ends after the last words.
pub(super) fn start(
    client: redis::Client,
    shared: Arc<Shared>,
    outgoing: mpsc::Receiver<Outgoing>,
    ears: Ears,
) -> std::io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let link = Link {
        client,
        shared,
        ears,
        own_word_at: Cell::new(Instant::now()),
        was_heard: Cell::new(false),
        away: Outage::new(),
        refusing: Outage::new(),
        counts_as: Cell::new(0),
    };
    std::thread::Builder::new().name("bus".to_owned()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                () = link.tell_on(outgoing) => {}
                () = link.hear_on() => {}
                () = link.beat_on() => {}
            }
            link.mute();
            link.deaf();
        });
    })
}

struct Link {
    client: redis::Client,
    shared: Arc<Shared>,
    ears: Ears,
    own_word_at: Cell<Instant>,
    /// It has been heard at all.
    was_heard: Cell<bool>,
    /// Of either connection.
    away: Outage,
    /// Of single commands.
    refusing: Outage,
    /// The name under which sockets are counted now.
    counts_as: Cell<u64>,
}

/// Whether the connection is gone, or as good as gone.
fn is_lost(error: &RedisError) -> bool {
    error.is_io_error() || error.is_timeout() || error.is_connection_dropped() || error.is_unrecoverable_error()
}

impl Link {
    fn complain(&self, why: &dyn std::fmt::Display) {
        if let Some(failing) = self.away.failed(Instant::now()) {
            log::warn!("no connection to the bus{failing}, trying again: {why}");
        }
    }

    // Hearing.

    async fn hear_on(&self) {
        loop {
            match timeout(CONNECT, self.client.get_async_pubsub()).await {
                Ok(Ok(connection)) => {
                    if self.hear(connection).await {
                        self.shared.stats.lost.fetch_add(1, Ordering::Relaxed);
                        self.complain(&"its messages come no more");
                    }
                    self.deaf();
                }
                Ok(Err(error)) => self.complain(&error),
                Err(_) => self.complain(&"it does not answer in time"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    fn deaf(&self) {
        self.shared.hears.store(false, Ordering::Relaxed);
        locked(&self.shared.wanted).disconnected();
    }

    /// Hears until the connection is lost; false if it never could.
    async fn hear(&self, connection: PubSub) -> bool {
        let (mut sink, stream) = connection.split();
        let nodes = AnyChannel::Nodes.name(&self.shared.prefix);
        match timeout(ANSWER, sink.subscribe(nodes)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                self.complain(&error);
                return false;
            }
            Err(_) => {
                self.complain(&"it does not answer in time");
                return false;
            }
        }
        locked(&self.shared.wanted).connected();
        if !self.subscribe(&mut sink).await {
            return false;
        }
        self.own_word_at.set(Instant::now());
        locked(&self.shared.members).could_not_hear(Instant::now());
        self.shared.hears.store(true, Ordering::Relaxed);
        if !self.was_heard.replace(true) {
            log::info!("connected to the bus");
        }
        self.beat(true);
        let subscribing = async {
            while self.subscribe(&mut sink).await {
                self.shared.changed.notified().await;
            }
        };
        let hearing = async {
            // Together what has come together: a large audience is heard as one.
            let mut stream = stream.ready_chunks(BATCH);
            while let Some(messages) = stream.next().await {
                let mut alarms = Vec::new();
                for message in &messages {
                    self.take(message, &mut alarms);
                }
                if !alarms.is_empty() {
                    (self.ears)(Heard::Alarms(alarms));
                }
            }
        };
        let watching = async {
            // A connection that is dead without a word.
            while self.own_word_at.get().elapsed() < DEAF_AFTER {
                tokio::time::sleep(BEAT).await;
            }
        };
        tokio::select! {
            () = subscribing => {}
            () = hearing => {}
            () = watching => {}
        }
        true
    }

    /// Does what there is to do about channels; false if it can't be done.
    async fn subscribe(&self, sink: &mut PubSubSink) -> bool {
        loop {
            let steps = locked(&self.shared.wanted).steps(CHANNELS);
            if steps.is_empty() {
                return true;
            }
            let Steps { subscribe, unsubscribe } = &steps;
            if !subscribe.is_empty()
                && !matches!(timeout(ANSWER, sink.subscribe(self.names(subscribe))).await, Ok(Ok(())))
            {
                return false;
            }
            if !unsubscribe.is_empty()
                && !matches!(timeout(ANSWER, sink.unsubscribe(self.names(unsubscribe))).await, Ok(Ok(())))
            {
                return false;
            }
            locked(&self.shared.wanted).done(&steps);
        }
    }

    fn names(&self, channels: &[Channel]) -> Vec<String> {
        channels.iter().map(|channel| AnyChannel::Held(*channel).name(&self.shared.prefix)).collect()
    }

    fn take(&self, message: &Msg, alarms: &mut Vec<(Alarm, Vec<Receiver>)>) {
        let garbled = || self.shared.stats.garbled.fetch_add(1, Ordering::Relaxed);
        let Some((node, rest)) = message::read_sender(message.get_payload_bytes()) else {
            garbled();
            return;
        };
        if node == self.shared.me {
            self.own_word_at.set(Instant::now());
            if let Some(over) = self.away.worked(Instant::now) {
                log::info!("connected to the bus again after {}", over.in_all());
            }
            return;
        }
        let Some(told) = message::read(rest) else {
            garbled();
            return;
        };
        self.shared.stats.heard.fetch_add(1, Ordering::Relaxed);
        if told == BusMessage::Leaving {
            if locked(&self.shared.members).left(node) {
                log::info!("node {node} has ended");
                (self.ears)(Heard::Gone(node));
            }
            return;
        }
        if locked(&self.shared.members).heard(node, Instant::now()) {
            log::info!("node {node} is there");
            // What it said before was not heard, or not kept.
            self.beat(true);
        }
        match told {
            BusMessage::Alarm(alarm, receiver) => match alarms.last_mut() {
                Some((last, receivers)) if last.id == alarm.id => receivers.push(receiver),
                _ => alarms.push((alarm, vec![receiver])),
            },
            told => {
                // In the order in which it was said.
                if !alarms.is_empty() {
                    (self.ears)(Heard::Alarms(std::mem::take(alarms)));
                }
                (self.ears)(Heard::Told(node, told));
            }
        }
    }

    /// Says that this node lives; with `asks` also that it wants to know who is present.
    fn beat(&self, asks: bool) {
        if self.shared.queue.try_send(Outgoing::One(AnyChannel::Nodes, BusMessage::Beat { asks })).is_err() {
            self.shared.owes.store(true, Ordering::Relaxed);
        }
    }

    // Telling.

    async fn tell_on(&self, mut outgoing: mpsc::Receiver<Outgoing>) {
        let mut connection: Option<MultiplexedConnection> = None;
        let mut next_try = Instant::now();
        let mut waiting = Vec::with_capacity(BATCH);
        while outgoing.recv_many(&mut waiting, BATCH).await > 0 {
            if connection.is_none() && Instant::now() >= next_try {
                connection = self.connect().await;
                next_try = Instant::now() + RETRY;
            }
            let count = waiting.len() as u64;
            let told = match &mut connection {
                Some(connection) => self.tell(connection, &mut waiting).await,
                None => false,
            };
            let stats = &self.shared.stats;
            if told { &stats.told } else { &stats.untold }.fetch_add(count, Ordering::Relaxed);
            if !told {
                self.shared.owes.store(true, Ordering::Relaxed);
            }
            if !told && connection.take().is_some() {
                stats.lost.fetch_add(1, Ordering::Relaxed);
                self.complain(&"it takes no more messages");
                self.mute();
            }
            let last = waiting.drain(..).find_map(|one| if let Outgoing::Stop(tell) = one { Some(tell) } else { None });
            if let Some(tell) = last {
                let _ = tell.send(());
                return;
            }
        }
    }

    async fn connect(&self) -> Option<MultiplexedConnection> {
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(Some(ANSWER));
        let connected = self.client.get_multiplexed_async_connection_with_config(&config).await;
        let mut connection = connected.inspect_err(|error| self.complain(error)).ok()?;
        let before = self.counts_as.get();
        let name = rand::random();
        self.counts_as.set(name);
        let mut pipe = redis::pipe();
        pipe.cmd("DEL").arg(self.counts(before)).ignore();
        self.keep_counts(&mut pipe);
        // A server that refuses to write refuses to count: that is all.
        let _ = pipe.exec_async(&mut connection).await;
        *locked(&self.shared.counting) = Some(Counting { connection: connection.clone(), name });
        self.shared.tells.store(true, Ordering::Relaxed);
        // Whatever was not told before is told again, behind what waits.
        self.shared.owes.store(true, Ordering::Relaxed);
        (self.ears)(Heard::MustCount);
        Some(connection)
    }

    /// The key that says that the counts of this name are kept.
    fn counts(&self, name: u64) -> String {
        format!("{}counts:{name}", self.shared.prefix)
    }

    fn keep_counts(&self, pipe: &mut redis::Pipeline) {
        pipe.cmd("SET").arg(self.counts(self.counts_as.get())).arg(1).arg("PX").arg(COUNTS_LIVE_MS).ignore();
    }

    fn mute(&self) {
        self.shared.tells.store(false, Ordering::Relaxed);
        *locked(&self.shared.counting) = None;
    }

    /// Tells all of it in one round trip, in order; false if that failed. Then some of it may have been told, which does
    /// no harm: whoever hears something twice notices.
    async fn tell(&self, connection: &mut MultiplexedConnection, waiting: &mut [Outgoing]) -> bool {
        let mut pipe = redis::pipe();
        for one in waiting {
            match one {
                Outgoing::One(channel, told) => {
                    if let BusMessage::Beat { .. } = told {
                        self.keep_counts(&mut pipe);
                    }
                    self.publish(&mut pipe, *channel, told);
                }
                Outgoing::Alarm(alarm, receivers) => {
                    if receivers.len() > FEW {
                        match self.anywhere(connection, receivers).await {
                            Ok(found) => *receivers = found,
                            Err(error) if is_lost(&error) => return false,
                            // All of them, then.
                            Err(_) => {}
                        }
                    }
                    self.publish_alarm(&mut pipe, alarm, receivers);
                }
                Outgoing::Stop(_) => {
                    pipe.cmd("DEL").arg(self.counts(self.counts_as.get())).ignore();
                    self.publish(&mut pipe, AnyChannel::Nodes, &BusMessage::Leaving);
                }
            }
        }
        match pipe.exec_async(connection).await {
            Ok(()) => {
                if let Some(over) = self.refusing.worked(Instant::now) {
                    log::info!("the bus refuses nothing any more after {}", over.in_all());
                }
                true
            }
            Err(error) if is_lost(&error) => false,
            Err(error) => {
                // One command is refused (a server that may not write, say); the others are done.
                if let Some(failing) = self.refusing.failed(Instant::now()) {
                    log::warn!("the bus refuses something{failing}: {error}");
                }
                true
            }
        }
    }

    fn publish(&self, pipe: &mut redis::Pipeline, channel: AnyChannel, told: &BusMessage) {
        let name = channel.name(&self.shared.prefix);
        pipe.cmd("PUBLISH").arg(name).arg(message::write(self.shared.me, told)).ignore();
    }

    fn publish_alarm(&self, pipe: &mut redis::Pipeline, alarm: &Alarm, receivers: &[Receiver]) {
        for receiver in receivers {
            let channel = AnyChannel::Held(Channel::User(receiver.user));
            self.publish(pipe, channel, &BusMessage::Alarm(alarm.clone(), *receiver));
        }
    }

    /// Those of a large audience for whom some node listens. Who comes later reads the store, where the alarm is.
    async fn anywhere(
        &self,
        connection: &mut MultiplexedConnection,
        receivers: &[Receiver],
    ) -> RedisResult<Vec<Receiver>> {
        let channels: Vec<Channel> = receivers.iter().map(|receiver| Channel::User(receiver.user)).collect();
        let counts: Vec<(String, u64)> =
            redis::cmd("PUBSUB").arg("NUMSUB").arg(self.names(&channels)).query_async(connection).await?;
        // Answered in the order in which it was asked.
        Ok(receivers.iter().zip(counts).filter(|(_, (_, count))| *count > 0).map(|(receiver, _)| *receiver).collect())
    }

    /// Says every second that this node lives, and notices who does not any more.
    async fn beat_on(&self) {
        let mut beaten_at = Instant::now();
        loop {
            tokio::time::sleep(BEAT).await;
            if std::mem::replace(&mut beaten_at, Instant::now()).elapsed() > STOOD_STILL {
                (self.ears)(Heard::MustCount);
            }
            let owes = self.shared.tells.load(Ordering::Relaxed) && self.shared.owes.swap(false, Ordering::Relaxed);
            if owes {
                (self.ears)(Heard::MustTell);
            }
            self.beat(owes);
            if self.shared.hears.load(Ordering::Relaxed) {
                let gone: Vec<NodeId> = locked(&self.shared.members).gone(Instant::now());
                for node in gone {
                    log::warn!("node {node} is gone");
                    (self.ears)(Heard::Gone(node));
                }
            }
        }
    }
}
