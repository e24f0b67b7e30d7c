//! A room with many watchers: everybody hears everything, once and in order, and the count is right.

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

/// `HANDSUP_TEST_WATCHERS` says how many visitors; a fifth as many users.
fn crowd() -> (usize, usize) {
    let visitors = std::env::var("HANDSUP_TEST_WATCHERS").map_or(1000, |count| count.parse().expect("a number"));
    (visitors, visitors / 5)
}

/// What one watcher hears until the last bid and the last line.
#[derive(Default)]
struct Heard {
    entered: Vec<i64>,
    counts: Vec<u64>,
    bids: Vec<(i64, i64)>,
    lines: Vec<String>,
}

impl Heard {
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

    fn is_all(&self) -> bool {
        self.bids.len() as i64 >= TIMES && self.lines.len() as i64 >= TIMES
    }
}

async fn hear(socket: &mut Socket) -> Heard {
    let mut heard = Heard::default();
    while !heard.is_all() {
        heard.note(&socket.next().await);
    }
    heard
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
async fn everybody_in_a_big_room_hears_everything_once_and_in_order() {
    allow_many_files();
    let (visitors, users) = crowd();
    let node = TestNode::start();
    let goods = node.live_goods(1).await;
    // From the beginning: it hears of everybody who comes.
    let mut witness = node.visitor().room(goods).await;
    let mut watchers = open((1..visitors).map(|_| node.visitor()), goods).await;
    let listing = open((FIRST_USER..).take(users).map(|user| node.user(user)), goods);
    let entering = async {
        let mut heard = Heard::default();
        while heard.entered.len() < users {
            heard.note(&witness.next().await);
        }
        heard
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
    let mut speaker = node.user(3).room(goods).await;
    let speaking = async {
        for nth in 0..TIMES {
            bidder.send_json(&bid_frame(goods, 2, 1000 + nth)).await;
            speaker.send_json(&line_frame(goods, 3, &nth.to_string())).await;
        }
        join(hear(&mut bidder), hear(&mut speaker)).await;
    };
    let (heard, ()) = join(join_all(watchers.iter_mut().map(hear)), speaking).await;
    for heard in heard {
        assert_eq!(heard.bids, (0..TIMES).map(|nth| (nth + 1, 1000 + nth)).collect::<Vec<_>>());
        assert_eq!(heard.lines, (0..TIMES).map(|nth| nth.to_string()).collect::<Vec<_>>());
        // Those who came in early hear of those who came later, and nobody hears of anybody twice.
        assert_eq!(heard.entered.iter().collect::<BTreeSet<_>>().len(), heard.entered.len());
        assert!(heard.counts.is_sorted() && heard.counts.last() == Some(&(users as u64 + 2)));
    }
    let figures = session_figures(&node.admins()).await;
    let all = visitors + users + 2;
    assert_eq!((&figures["in_rooms"], &figures["sessions"]), (&json!(all), &json!(all)), "nobody was closed");
    assert_eq!((&figures["users"], &figures["closed_for_missing"]), (&json!(users + 2), &json!(0)));
}
