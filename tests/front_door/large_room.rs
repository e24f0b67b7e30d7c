//! A room with many watchers: everybody gets every frame once and in order, and the count is right.

use std::collections::BTreeSet;

use futures_util::{
    StreamExt,
    future::{join, join_all},
    stream,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};

use crate::support::{Client, Socket, TestNode, bid_frame, line_frame, session_figures};

const TIMES: i64 = 50;
const FIRST_USER: i64 = 1000;

/// `HANDSUP_TEST_WATCHERS` says how many visitors; there are a fifth as many users.
fn audience() -> (usize, usize) {
    let visitors = std::env::var("HANDSUP_TEST_WATCHERS").map_or(1000, |count| count.parse().expect("a number"));
    (visitors, visitors / 5)
}

/// The frames of one watcher until the last bid and the last line.
#[derive(Default)]
struct Frames {
    entered: Vec<i64>,
    counts: Vec<u64>,
    bids: Vec<(i64, i64)>,
    lines: Vec<String>,
}

impl Frames {
    fn note(&mut self, frame: &Value) {
        match frame["response_type"].as_str().unwrap() {
            "enter" => {
                self.entered.push(frame["user_id"].as_i64().unwrap());
                self.counts.push(frame["participants_count"].as_u64().unwrap());
            }
            "bid" => self.bids.push((frame["seq"].as_i64().unwrap(), frame["high_price"].as_i64().unwrap())),
            "message" => self.lines.push(frame["message"].as_str().unwrap().to_owned()),
            _ => panic!("{frame}"),
        }
    }

    fn is_complete(&self) -> bool {
        self.bids.len() as i64 >= TIMES && self.lines.len() as i64 >= TIMES
    }
}

async fn receive_all(socket: &mut Socket) -> Frames {
    let mut received = Frames::default();
    while !received.is_complete() {
        received.note(&socket.next().await);
    }
    received
}

async fn open(clients: impl Iterator<Item = Client>, goods: i64) -> Vec<Socket> {
    stream::iter(clients).map(|client| async move { client.room(goods).await }).buffered(32).collect().await
}

/// Both ends of all sockets are in this process: more files than many shells allow at first.
fn allow_many_files() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
}

#[actix_web::test]
async fn everybody_in_a_large_room_gets_every_frame_once_and_in_order() {
    allow_many_files();
    let (visitors, users) = audience();
    // All are on this machine, so they have one address.
    let node = TestNode::with(|settings| settings.limits.connections_per_address = 1_000_000);
    let goods = node.live_goods(1).await;
    // A witness of all joins.
    let mut witness = node.visitor().room(goods).await;
    let mut watchers = open((1..visitors).map(|_| node.visitor()), goods).await;
    let listing = open((FIRST_USER..).take(users).map(|user| node.user(user)), goods);
    let entering = async {
        let mut received = Frames::default();
        while received.entered.len() < users {
            received.note(&witness.next().await);
        }
        received
    };
    let (more, entered) = join(listing, entering).await;
    watchers.extend(more);
    watchers.push(witness);
    let everybody: BTreeSet<i64> = (FIRST_USER..).take(users).collect();
    assert_eq!(entered.entered.iter().copied().collect::<BTreeSet<_>>(), everybody, "each entered once");
    assert_eq!(entered.counts, (1..=users as u64).collect::<Vec<_>>());
    let page = node.visitor().get(&format!("/goods/{goods}/")).await.body;
    assert_eq!(page["participants_count"], users);
    assert_eq!(page["participants"].as_array().unwrap().len(), users);

    let mut bidder = node.user(2).room(goods).await;
    let mut author = node.user(3).room(goods).await;
    let speaking = async {
        for nth in 0..TIMES {
            bidder.send_json(&bid_frame(goods, 2, 1000 + nth)).await;
            author.send_json(&line_frame(goods, 3, &nth.to_string())).await;
        }
        join(receive_all(&mut bidder), receive_all(&mut author)).await;
    };
    let (received, ()) = join(join_all(watchers.iter_mut().map(receive_all)), speaking).await;
    for received in received {
        assert_eq!(received.bids, (0..TIMES).map(|nth| (nth + 1, 1000 + nth)).collect::<Vec<_>>());
        assert_eq!(received.lines, (0..TIMES).map(|nth| nth.to_string()).collect::<Vec<_>>());
        // A participant gets the joins of later ones, and none twice.
        assert_eq!(received.entered.iter().collect::<BTreeSet<_>>().len(), received.entered.len());
        assert!(received.counts.is_sorted() && received.counts.last() == Some(&(users as u64 + 2)));
    }
    let figures = session_figures(&node.admins()).await;
    let all = visitors + users + 2;
    assert_eq!((&figures["in_rooms"], &figures["sessions"]), (&json!(all), &json!(all)), "nobody was closed");
    assert_eq!((&figures["users"], &figures["closed_for_missing"]), (&json!(users + 2), &json!(0)));
}
