//! The real program killed and stopped under load: everything that it has answered is stored, with its alarms.

use std::{
    cell::{Cell, RefCell},
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::{
    StreamExt,
    future::{join, join_all},
    stream,
};
use handsup::test_support::{
    domain::Timestamp,
    time_source::{SystemTime, TimeSource},
};
use rand::{RngExt, rngs::StdRng};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;

use crate::{
    starts::in_use,
    support::{
        Answer, Client, ManualTime, Process, TestNode, check_answered, check_history, check_outbids, database,
        eventually, goods_body, kills, rng, wait_until_settled,
    },
};

const SELLER: i64 = 1;
const BIDDERS: usize = 10;

fn database(folder: &TempDir) -> PathBuf {
    folder.path().join("x.db")
}

fn bidders(process: &Process) -> Vec<(i64, Client)> {
    (100..).take(BIDDERS).map(|id| (id, process.user(id))).collect()
}

/// Goods that start at `starts_at` and last `lasts_s`.
async fn make_goods(process: &Process, starts_at: Timestamp, lasts_s: i64) -> i64 {
    let body = goods_body(&json!({"starts_at": starts_at, "duration_s": lasts_s}));
    let made = process.user(SELLER).retrying().post("/goods/", &body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    made.body["id"].as_i64().unwrap()
}

async fn three_live_goods(process: &Process) -> Vec<i64> {
    let now = SystemTime.now();
    join_all((0..3).map(|_| make_goods(process, now, 1200))).await
}

/// Bidders who outbid each other on several goods, and their answers.
struct Load {
    goods: Vec<i64>,
    /// The next price of each goods item: the prices of all bidders rise together.
    prices: Vec<Cell<i64>>,
    /// The bodies of all 201.
    accepted: RefCell<Vec<Value>>,
    count: watch::Sender<usize>,
    /// The server has been asked to stop.
    ending: Cell<bool>,
}

impl Load {
    fn new(goods: Vec<i64>) -> Self {
        let prices = goods.iter().map(|_| Cell::new(1000)).collect();
        Self { goods, prices, accepted: RefCell::default(), count: watch::Sender::new(0), ending: Cell::new(false) }
    }

    /// Resolves when so many more bids have been accepted.
    async fn accepts(&self, more: usize) {
        let enough = *self.count.borrow() + more;
        let mut count = self.count.subscribe();
        count.wait_for(|count| *count >= enough).await.unwrap();
    }

    /// Bids on the goods in turn until the server is gone.
    async fn fire(&self, bidder: &Client, first: usize) {
        for turn in first.. {
            let at = turn % self.goods.len();
            let price = self.prices[at].replace(self.prices[at].get() + 1);
            let sent_before = !self.ending.get();
            match bidder.try_bid(self.goods[at], price).await {
                Ok(answer) if answer.status == 201 => {
                    self.accepted.borrow_mut().push(answer.body);
                    self.count.send_modify(|count| *count += 1);
                }
                Ok(answer) if answer.status == 409 => assert_eq!(answer.code(), "bid_too_low"),
                Ok(answer) => {
                    assert!(self.ending.get(), "{}", answer.text);
                    check_not_stored(&answer);
                }
                Err(error) => {
                    // An orderly stop answers everything that is under way.
                    assert!(!(self.ending.get() && sent_before), "{error}");
                    return;
                }
            }
        }
    }

    async fn fire_all(&self, bidders: &[(i64, Client)]) {
        join_all(bidders.iter().enumerate().map(|(first, (_, bidder))| self.fire(bidder, first))).await;
    }

    /// Asserts that every answered bid is stored with its alarm, and that nothing contradicts it.
    async fn check(&self, process: &Process) {
        let bidders = bidders(process);
        for (goods, price) in self.goods.iter().zip(&self.prices) {
            let history = process.visitor().history(*goods).await;
            check_history(&history);
            let accepted = self.accepted.borrow().clone();
            check_answered(&history, accepted.iter().filter(|bid| bid["goods_id"] == *goods));
            check_outbids(*goods, &history, &bidders).await;
            let page = process.visitor().get(&format!("/goods/{goods}/")).await.body;
            let last = history.last().expect("bids were accepted");
            assert_eq!((&page["high_price"], &page["bid_seq"]), (&last["price"], &last["seq"]));
            assert_eq!((&page["buyer"]["id"], &page["status"]), (&last["user_id"], &json!(true)));
            price.set(last["price"].as_i64().unwrap() + 1);
        }
        for (user, bidder) in &bidders {
            let received = bidder.inbox_kinds().await;
            let only_outbids = received.iter().all(|(kind, goods)| kind == "outbid" && self.goods.contains(goods));
            assert!(only_outbids, "user {user} got {received:?}");
        }
    }
}

/// Asserts the refusal of a bid that came too late for this process.
fn check_not_stored(answer: &Answer) {
    assert_eq!((answer.status, answer.code()), (503, "unavailable"), "{}", answer.text);
    assert_eq!(answer.body["outcome"], "not_stored");
    let retry_after = answer.headers.get("retry-after").expect("a Retry-After").to_str().unwrap();
    assert!(retry_after.parse::<u64>().is_ok(), "{retry_after}");
}

/// Sleeps for a random time below this, whatever the program is doing then.
async fn some_time(rng: &mut StdRng, below_ms: u64) {
    tokio::time::sleep(Duration::from_micros(rng.random_range(0..below_ms * 1000))).await;
}

/// `HANDSUP_TEST_KILLS` says how often; the moments are random.
#[actix_web::test]
async fn after_a_kill_under_load_every_answered_bid_is_stored_with_its_alarm() {
    let mut rng = rng("after_a_kill_under_load_every_answered_bid_is_stored_with_its_alarm");
    let folder = tempfile::tempdir().unwrap();
    let mut process = Process::start(&database(&folder));
    let load = Load::new(three_live_goods(&process).await);
    let mut seen: Vec<Vec<Value>> = vec![Vec::new(); BIDDERS];
    for _ in 0..kills() {
        let bidders = bidders(&process);
        let mut sockets = join_all(bidders.iter().zip(&seen).map(|((_, bidder), seen)| {
            let last = seen.last().map_or(0, |alarm| alarm["id"].as_i64().unwrap());
            bidder.socket_since(last)
        }))
        .await;
        let kill = async {
            load.accepts(rng.random_range(60..160)).await;
            // An answer has just arrived: the next commit may be anywhere.
            some_time(&mut rng, 15).await;
            process.kill();
        };
        let received = join_all(sockets.iter_mut().map(|socket| socket.until_gone()));
        let (received, _) = join(received, join(load.fire_all(&bidders), kill)).await;
        for (seen, received) in seen.iter_mut().zip(received) {
            seen.extend(received.into_iter().filter(|frame| frame["response_type"] != "hello"));
        }
        process = Process::start(&database(&folder));
        load.check(&process).await;
        check_received(&process, &seen).await;
    }
    assert!(seen.iter().any(|seen| !seen.is_empty()), "somebody got an alarm");
}

/// Asserts that each bidder's sockets, each resumed where the last one was cut off, received the beginning of their
/// inbox, without a gap, a double or an alarm that is not stored.
async fn check_received(process: &Process, seen: &[Vec<Value>]) {
    for ((user, bidder), seen) in bidders(process).iter().zip(seen) {
        let inbox = bidder.inbox().await;
        let brief = |alarm: &Value| ["id", "kind", "goods_id", "high_price"].map(|field| alarm[field].clone());
        let stored: Vec<_> = inbox.iter().take(seen.len()).map(brief).collect();
        assert_eq!(seen.iter().map(brief).collect::<Vec<_>>(), stored, "user {user}");
    }
}

#[actix_web::test]
async fn auctions_due_while_the_process_was_dead_start_and_end_once() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(&database(&folder));
    let now = SystemTime.now();
    let ends = make_goods(&process, now, 5).await;
    let starts = make_goods(&process, now.plus_ms(5000), 1200).await;
    let passes = make_goods(&process, now.plus_ms(4000), 1).await;
    let due = now.plus_ms(5000);
    let liker = process.user(2);
    for goods in [ends, starts, passes] {
        liker.like(goods).await;
    }
    assert_eq!(process.user(3).bid(ends, 1000).await.status, 201);
    assert_eq!(process.user(4).bid(ends, 2000).await.status, 201);
    process.kill();
    assert!(SystemTime.now() < now.plus_ms(4000), "the machine is too slow for this test");
    SystemTime.wait_until(due).await;

    for _ in 0..3 {
        let process = Process::start(&database(&folder));
        wait_until_settled(&process.admin(), due).await;
        let [seller, liker, loser, buyer] = [SELLER, 2, 3, 4].map(|id| process.user(id));
        let of = |kind: &str, goods| (kind.to_owned(), goods);
        let mut ended = seller.inbox_kinds().await;
        ended.sort();
        assert_eq!(ended, [of("auction_sold", ends), of("auction_unsold", passes)]);
        let mut received = liker.inbox_kinds().await;
        // User 2 liked the first goods either before or after their start.
        received.retain(|(_, goods)| *goods != ends);
        assert_eq!(received, [of("auction_started", starts)]);
        assert_eq!(loser.inbox_kinds().await, [of("outbid", ends), of("auction_lost", ends)]);
        assert_eq!(buyer.inbox_kinds().await, [of("auction_won", ends)]);
        let page = async |goods: i64| process.visitor().get(&format!("/goods/{goods}/")).await.body;
        assert_eq!(page(ends).await["trade_room"], buyer.inbox().await[0]["trade_room_id"]);
        assert_eq!(page(starts).await["status"], true);
        assert_eq!(page(passes).await["status"], false);
        process.kill();
    }
}

/// The alarms of a start go to a large audience in several transactions. A kill between them loses and doubles nothing.
#[actix_web::test]
async fn a_kill_during_a_start_leaves_each_liker_with_one_alarm() {
    const LIKERS: usize = 1700;
    let (mut node, goods, then) = start_due_for(LIKERS).await;
    node.stop();
    let database = database::default_path(node.folder());

    let process = Process::start(&database);
    let page = format!("/goods/{goods}/");
    let visitor = process.visitor();
    eventually("the start", || async { (visitor.get(&page).await.body["status"] == true).then_some(()) }).await;
    process.kill();

    let process = Process::start(&database);
    wait_until_settled(&process.admin(), then).await;
    each_liker_got_one_alarm(&process, goods, LIKERS).await;
}

/// Also before it listens: while it opens the database, creates its schema, resumes a fan-out or does the start.
#[actix_web::test]
async fn kills_at_any_moment_after_the_launch_lose_nothing() {
    const LIKERS: usize = 2600;
    let mut rng = rng("kills_at_any_moment_after_the_launch_lose_nothing");
    let (mut node, goods, then) = start_due_for(LIKERS).await;
    node.stop();
    let (mut deaf, mut amid) = (0, 0);
    for round in 0..kills() {
        let folder = tempfile::tempdir().unwrap();
        let [empty, due] = ["empty.db", "due.db"].map(|name| folder.path().join(name));
        database::copy(&database::default_path(node.folder()), &due);
        for database in [&empty, &due, &due] {
            let process = Process::spawn(database);
            some_time(&mut rng, 60).await;
            deaf += i32::from(!process.listens());
            process.kill();
        }
        amid += i32::from((1..LIKERS as i64).contains(&inboxes_left(&due).0));

        let process = Process::start(&empty);
        let first = make_goods(&process, SystemTime.now(), 1200).await;
        assert_eq!((first, process.user(2).retrying().bid(first, 1000).await.status), (1, 201), "a schema, once");
        let process = Process::start(&due);
        wait_until_settled(&process.admin(), then).await;
        assert_eq!(inboxes(&due), (LIKERS as i64, LIKERS as i64), "each is alarmed once");
        if round == 0 {
            each_liker_got_one_alarm(&process, goods, LIKERS).await;
        }
    }
    eprintln!("of {} kills {deaf} came before it listened, {amid} with only some likers alarmed", 3 * kills());
}

/// The numbers of inbox rows and of users who have one, read directly from the database.
fn inboxes(database: &Path) -> (i64, i64) {
    let count = |what| database::number(database, &format!("count({what}) FROM inbox"));
    (count("*"), count("DISTINCT user_id"))
}

/// The same from what a kill has left, which only the program itself may recover.
fn inboxes_left(database: &Path) -> (i64, i64) {
    if !database::on_sqlite_only() {
        return inboxes(database);
    }
    let copy = database.with_file_name("copy.db");
    for suffix in ["", "-wal"] {
        let [from, to] = [database, &copy].map(|path| format!("{}{suffix}", path.display()));
        let copied = std::fs::copy(from, to);
        assert!(copied.is_ok() || suffix == "-wal", "{copied:?}");
    }
    inboxes(&copy)
}

/// A stopped node with goods whose start, with so many likers, is due by the machine's clock; and a moment at which it
/// is.
async fn start_due_for(likers: usize) -> (TestNode, i64, Timestamp) {
    // Made on a node whose time is earlier, so that the start is due when the program begins.
    let then = Timestamp::from_secs(SystemTime.now().secs()).plus_ms(-100_000);
    let node = TestNode::with_time(ManualTime::at(then), |_| {});
    let goods = node.goods(SELLER, 10_000, 1200).await;
    stream::iter((1000..).take(likers).map(|id| node.user(id).retrying()))
        .for_each_concurrent(32, |user| async move { user.like(goods).await })
        .await;
    (node, goods, then)
}

async fn each_liker_got_one_alarm(process: &Process, goods: i64, likers: usize) {
    let poll =
        |user: Client| async move { assert_eq!(user.inbox_kinds().await, [("auction_started".to_owned(), goods)]) };
    stream::iter((1000..).take(likers).map(|id| process.user(id).retrying())).for_each_concurrent(32, poll).await;
}

#[actix_web::test]
async fn sigterm_under_load_stops_in_order_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = Process::start(&database(&folder));
    let load = Load::new(three_live_goods(&process).await);
    let bidders = bidders(&process);
    let mut sockets = join_all(bidders.iter().map(|(_, bidder)| bidder.socket())).await;
    let terminate = async {
        load.accepts(100).await;
        load.ending.set(true);
        process.terminate();
        let exit = tokio::time::timeout(Duration::from_secs(10), process.exit()).await;
        assert_eq!(exit.expect("within 10 s").code(), Some(0), "{}", process.stderr());
    };
    let closed = join_all(sockets.iter_mut().map(|socket| socket.closed()));
    let ((), (closed, ())) = join(load.fire_all(&bidders), join(closed, terminate)).await;
    for closed in closed {
        assert_eq!(closed.code, Some(1012), "{closed:?}");
        let reason: Value = serde_json::from_str(&closed.reason).expect("JSON");
        assert!(reason["retry_ms"].is_u64(), "{closed:?}");
    }
    load.check(&Process::start(&database(&folder))).await;
}

#[actix_web::test]
async fn a_second_process_on_the_same_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(&database(&folder));
    let goods = three_live_goods(&process).await[0];
    assert_eq!(process.user(2).bid(goods, 1000).await.status, 201);
    in_use(&database(&folder)).await;
    // The first one goes on, and its death frees the database at once.
    assert_eq!(process.user(2).bid(goods, 2000).await.status, 201);
    process.kill();
    let process = Process::start(&database(&folder));
    assert_eq!(process.visitor().history(goods).await.len(), 2);
}
