//! A storm of alarms over connections that keep breaking: a client that resumes from the last alarm that it has seen
//! sees each alarm once and in order, and so does a session of the same user that never breaks.

use std::{cell::Cell, time::Duration};

use awc::ws::Message;
use futures_util::{
    StreamExt,
    future::{join_all, join3},
    stream,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::Value;

use crate::support::{Client, DEADLINE, Socket, TestNode};

const SELLER: i64 = 1;
const VICTIM: i64 = 2;
/// The goods on which the victim is outbid at the same time, each by so many bidders, so many times.
const GOODS: usize = 12;
const BIDDERS: i64 = 4;
const TIMES: i64 = 150;
const ALARMS: usize = GOODS * TIMES as usize;

/// The most frames that are read before a connection breaks.
const FRAMES: usize = 20;
/// The latest moment at which a connection breaks, whatever it is doing.
const BREAKS_WITHIN_MS: u64 = 30;

/// How a connection ends.
#[derive(Debug, Clone, Copy)]
enum Break {
    /// Right after the handshake, with everything unread.
    Unread,
    /// After so many alarms, without a close.
    After(usize),
    /// At that moment, without a close: in the middle of the handshake, the backlog or anything else.
    Amid(Duration),
    /// After so many alarms, with a close frame but without waiting for its answer.
    Said(usize),
    /// After so many alarms, with a close frame, while the server answers it.
    Closed(usize, Duration),
}

impl Break {
    fn any(rng: &mut StdRng) -> Self {
        let frames = rng.random_range(0..FRAMES);
        let moment = Duration::from_millis(rng.random_range(0..BREAKS_WITHIN_MS));
        match rng.random_range(0..5) {
            0 => Self::Unread,
            1 => Self::After(frames),
            2 => Self::Amid(moment),
            3 => Self::Said(frames),
            _ => Self::Closed(frames, moment),
        }
    }
}

/// What a client has seen over all its connections.
#[derive(Default)]
struct Seen {
    alarms: Vec<Value>,
    connections: usize,
    /// The connections that were opened during the storm, and those of them that brought something.
    amid_storm: usize,
    fruitful: usize,
}

impl Seen {
    fn last(&self) -> i64 {
        self.alarms.last().map_or(0, |alarm| alarm["id"].as_i64().unwrap())
    }

    /// Reads so many more alarms, but not more than there will be.
    async fn read(&mut self, socket: &mut Socket, frames: usize) {
        for _ in 0..frames.min(ALARMS - self.alarms.len()) {
            self.alarms.push(socket.expect_alarm("outbid").await);
        }
    }
}

async fn resume(victim: &Client, seen: &Seen) -> Socket {
    let mut socket = victim.socket_since(seen.last()).await;
    assert_eq!(socket.next().await["response_type"], "hello");
    socket
}

async fn one_connection(victim: &Client, seen: &mut Seen, how: Break) {
    match how {
        Break::Unread => drop(victim.socket_since(seen.last()).await),
        Break::After(frames) => {
            let mut socket = resume(victim, seen).await;
            seen.read(&mut socket, frames).await;
        }
        Break::Amid(moment) => {
            let reading = async {
                let mut socket = resume(victim, seen).await;
                seen.read(&mut socket, ALARMS).await;
            };
            // Usually the time runs out during the read, on purpose.
            let _ = tokio::time::timeout(moment, reading).await;
        }
        Break::Said(frames) => {
            let mut socket = resume(victim, seen).await;
            seen.read(&mut socket, frames).await;
            socket.send(Message::Close(None)).await;
        }
        Break::Closed(frames, moment) => {
            let mut socket = resume(victim, seen).await;
            seen.read(&mut socket, frames).await;
            // The server would wait for this side to end the connection.
            let _ = tokio::time::timeout(moment, socket.close()).await;
        }
    }
}

/// Reconnects until it has seen everything.
async fn reconnect_until_all_is_seen(victim: &Client, storming: &Cell<bool>) -> Seen {
    let seed: u64 = rand::random();
    eprintln!("seed {seed}");
    let (mut rng, mut seen) = (StdRng::seed_from_u64(seed), Seen::default());
    while seen.alarms.len() < ALARMS {
        let (stormy, before) = (storming.get(), seen.alarms.len());
        one_connection(victim, &mut seen, Break::any(&mut rng)).await;
        seen.connections += 1;
        seen.amid_storm += usize::from(stormy);
        seen.fruitful += usize::from(stormy && seen.alarms.len() > before);
    }
    seen
}

/// The victim takes the lead and loses it, again and again.
async fn outbid(goods: i64, victim: &Client, bidders: &[Client]) {
    for time in 0..TIMES {
        let bidder = &bidders[usize::try_from(time + goods).unwrap() % bidders.len()];
        assert_eq!(victim.bid(goods, 1000 + 2 * time).await.status, 201);
        assert_eq!(bidder.bid(goods, 1001 + 2 * time).await.status, 201);
    }
}

/// The fields that must be equal in the inbox and on the wire. Whether an alarm still holds changes with time.
fn briefs(alarms: &[Value]) -> Vec<[Value; 5]> {
    let fields = ["id", "kind", "goods_id", "high_price", "created_at"];
    alarms.iter().map(|alarm| fields.map(|field| alarm[field].clone())).collect()
}

#[actix_web::test]
async fn a_client_that_keeps_reconnecting_sees_each_alarm_once_and_in_order() {
    // A broken connection keeps its place until the node has noticed.
    let node = TestNode::with(|settings| settings.session.max_per_user = 1000);
    let goods: Vec<i64> = stream::iter(0..GOODS).then(|_| node.live_goods(SELLER)).collect().await;
    let bidders: Vec<Client> = (10..).take(BIDDERS as usize).map(|id| node.user(id)).collect();
    let victim = node.user(VICTIM);
    let mut steady = resume(&victim, &Seen::default()).await;

    let storming = Cell::new(true);
    let storm = async {
        join_all(goods.iter().map(|goods| outbid(*goods, &victim, &bidders))).await;
        storming.set(false);
    };
    let staying = async {
        let mut seen = Seen::default();
        seen.read(&mut steady, ALARMS).await;
        seen
    };
    let coming_back = reconnect_until_all_is_seen(&victim, &storming);
    let all = join3(storm, staying, coming_back);
    let ((), stayed, came_back) = tokio::time::timeout(DEADLINE * 12, all).await.expect("the storm ends");

    let stored = briefs(&victim.inbox().await);
    assert_eq!(stored.len(), ALARMS);
    assert_eq!(briefs(&stayed.alarms), stored, "over one connection");
    assert_eq!(briefs(&came_back.alarms), stored, "over {} connections", came_back.connections);
    eprintln!(
        "{} connections, {} amid the storm, {} of them fruitful",
        came_back.connections, came_back.amid_storm, came_back.fruitful
    );
    assert!(came_back.fruitful > 5, "{} of {} amid the storm", came_back.fruitful, came_back.amid_storm);
}
