//! The connections to Redis, on a thread of their own: one that hears, one that tells. Each comes back by itself.

use std::{
    cell::Cell,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use redis::{
    AsyncConnectionConfig, Msg, RedisResult,
    aio::{MultiplexedConnection, PubSub, PubSubSink},
};
use tokio::{sync::mpsc, time::timeout};

use super::{
    Channel, Ears, Heard, NodeId, Shared, locked,
    seats::{LIVES_MS, lives},
    told::{self, AnyChannel, Outgoing, Told},
    wanted::Steps,
};
use crate::domain::{Alarm, Receiver};

/// How long a connection may take, and an answer on one.
const CONNECT: Duration = Duration::from_secs(1);
const ANSWER: Duration = Duration::from_secs(2);
/// Between two tries to connect.
const RETRY: Duration = Duration::from_millis(250);
/// Between two reminders that there is no connection.
const REMIND: Duration = Duration::from_secs(2);
/// How often this node says that it lives.
const BEAT: Duration = Duration::from_secs(1);
/// Its own word comes back to it sooner than this, or nothing does.
const DEAF_AFTER: Duration = Duration::from_secs(4);
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
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let link = Link { client, shared, ears, own_word_at: Cell::new(Instant::now()) };
    std::thread::Builder::new().name("bus".to_owned()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                () = link.tell_on(outgoing) => {}
                () = link.hear_on() => {}
                () = link.beat_on() => {}
            }
            link.no_commands();
            link.deaf();
        });
    })?;
    Ok(())
}

struct Link {
    client: redis::Client,
    shared: Arc<Shared>,
    ears: Ears,
    own_word_at: Cell<Instant>,
}

impl Link {
    // Hearing.

    async fn hear_on(&self) {
        let mut reminded = Instant::now();
        loop {
            match timeout(CONNECT, self.client.get_async_pubsub()).await {
                Ok(Ok(connection)) => {
                    if self.hear(connection).await {
                        self.shared.stats.lost.fetch_add(1, Ordering::Relaxed);
                        log::warn!("the bus can't be heard any more; connecting again");
                    }
                    self.deaf();
                }
                Ok(Err(error)) => log::debug!("no connection to the bus: {error}"),
                Err(_) => log::debug!("no connection to the bus in time"),
            }
            if reminded.elapsed() >= REMIND {
                reminded = Instant::now();
                (self.ears)(Heard::Down);
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
        let (mut sink, mut stream) = connection.split();
        let nodes = AnyChannel::Nodes.name(&self.shared.prefix);
        if !matches!(timeout(ANSWER, sink.subscribe(nodes)).await, Ok(Ok(()))) {
            return false;
        }
        locked(&self.shared.wanted).connected();
        if !self.subscribe(&mut sink).await {
            return false;
        }
        self.own_word_at.set(Instant::now());
        locked(&self.shared.members).could_not_hear(Instant::now());
        self.shared.hears.store(true, Ordering::Relaxed);
        log::info!("the bus is heard");
        (self.ears)(Heard::Up);
        // Past the bound it would be lost, and the others would ask again only when this node does.
        let _ = self.shared.queue.try_send(Outgoing::One(AnyChannel::Nodes, Told::Beat { asks: true }));
        let subscribing = async {
            while self.subscribe(&mut sink).await {
                self.shared.changed.notified().await;
            }
        };
        let hearing = async {
            while let Some(message) = stream.next().await {
                self.take(&message);
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

    fn take(&self, message: &Msg) {
        let garbled = || self.shared.stats.garbled.fetch_add(1, Ordering::Relaxed);
        let Some((node, rest)) = told::read_sender(message.get_payload_bytes()) else {
            garbled();
            return;
        };
        if node == self.shared.me {
            self.own_word_at.set(Instant::now());
            return;
        }
        let Some(told) = told::read(rest) else {
            garbled();
            return;
        };
        self.shared.stats.heard.fetch_add(1, Ordering::Relaxed);
        if told == Told::Leaving {
            if locked(&self.shared.members).left(node) {
                log::info!("node {node} has ended");
                (self.ears)(Heard::Gone(node));
            }
            return;
        }
        locked(&self.shared.members).heard(node, Instant::now());
        (self.ears)(Heard::Told(node, told));
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
            if !told && connection.take().is_some() {
                stats.lost.fetch_add(1, Ordering::Relaxed);
                log::warn!("the bus can't be told anything any more; connecting again");
                self.no_commands();
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
        let connection = connected.inspect_err(|error| log::debug!("no connection to the bus: {error}")).ok()?;
        *locked(&self.shared.commands) = Some(connection.clone());
        self.shared.tells.store(true, Ordering::Relaxed);
        (self.ears)(Heard::CanTell);
        Some(connection)
    }

    fn no_commands(&self) {
        self.shared.tells.store(false, Ordering::Relaxed);
        *locked(&self.shared.commands) = None;
    }

    /// Tells all of it in one round trip, in order; false if that failed. Then some of it may have been told, which does
    /// no harm: whoever hears something twice notices.
    async fn tell(&self, connection: &mut MultiplexedConnection, waiting: &mut [Outgoing]) -> bool {
        let mut pipe = redis::pipe();
        for one in waiting {
            match one {
                Outgoing::One(channel, told) => {
                    if let Told::Beat { .. } = told {
                        pipe.cmd("SET").arg(lives(&self.shared)).arg(1).arg("PX").arg(LIVES_MS).ignore();
                    }
                    self.publish(&mut pipe, *channel, told);
                }
                Outgoing::Alarm(alarm, receivers) => {
                    if receivers.len() > FEW {
                        match self.anywhere(connection, receivers).await {
                            Ok(found) => *receivers = found,
                            Err(_) => return false,
                        }
                    }
                    self.publish_alarm(&mut pipe, alarm, receivers);
                }
                Outgoing::Stop(_) => self.publish(&mut pipe, AnyChannel::Nodes, &Told::Leaving),
            }
        }
        pipe.is_empty() || pipe.exec_async(connection).await.is_ok()
    }

    fn publish(&self, pipe: &mut redis::Pipeline, channel: AnyChannel, told: &Told) {
        let name = channel.name(&self.shared.prefix);
        pipe.cmd("PUBLISH").arg(name).arg(told::write(self.shared.me, told)).ignore();
    }

    fn publish_alarm(&self, pipe: &mut redis::Pipeline, alarm: &Alarm, receivers: &[Receiver]) {
        for receiver in receivers {
            let channel = AnyChannel::Held(Channel::User(receiver.user));
            self.publish(pipe, channel, &Told::Alarm(alarm.clone(), *receiver));
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
        loop {
            tokio::time::sleep(BEAT).await;
            let _ = self.shared.queue.try_send(Outgoing::One(AnyChannel::Nodes, Told::Beat { asks: false }));
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
