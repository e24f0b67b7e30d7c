//! The store: what the ledger promises to its callers, on either engine. Rules are tested in `domain`, the whole
//! service in `front_door`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/database.rs"]
mod database;
#[path = "support/writer_statements.rs"]
mod writer_statements;

use std::{
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

use handsup::test_support::{
    domain::{Alarm, AlarmCursor, AlarmKind, Bid, GoodsId, NewGoods, Phase, Price, Timestamp, User, UserId},
    store::{
        AlarmQuery, Committed, DatabaseUrl, Ledger, LedgerThread, Store, StoreError, Tx, Write, WriteError,
        writes::{
            BidVerdict, CreateGoods, EndAuction, Ended, EnsureUser, KeyedBid, Like, LikeSet, MarkReceived, PlaceBids,
            RaiseEndingSoon, SetLike, StartAuction,
        },
    },
    time_source::{SystemTime, TimeSource},
};

const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

type DispatchedAlarms = Arc<Mutex<Vec<(Alarm, Vec<UserId>)>>>;

/// A fresh database with its ledger.
struct Fixture {
    store: Store,
    ledger: Ledger,
    thread: Option<LedgerThread>,
    dispatched: DispatchedAlarms,
    folder: Arc<tempfile::TempDir>,
}

impl Fixture {
    fn new() -> Self {
        Self::on(Arc::new(tempfile::tempdir().unwrap()))
    }

    fn on(folder: Arc<tempfile::TempDir>) -> Self {
        let url = DatabaseUrl::parse(&database::url(folder.path())).unwrap();
        let opened = Store::open(&url, 2).unwrap();
        let dispatched = DispatchedAlarms::default();
        let store = opened.store.clone();
        let dispatched_by_ledger = Arc::clone(&dispatched);
        let observer = Box::new(move |all: Vec<Committed>| {
            let alarms = all.into_iter().filter_map(|one| match one {
                Committed::Alarm { alarm, receivers } => Some((alarm, receivers.iter().map(|to| to.user).collect())),
                _ => None,
            });
            dispatched_by_ledger.lock().unwrap().extend(alarms);
        });
        let thread = opened.start_ledger(0, Arc::new(SystemTime), observer).unwrap();
        Self { store, ledger: thread.ledger(), thread: Some(thread), dispatched, folder }
    }

    fn reopen(mut self) -> Self {
        self.thread.take().unwrap().stop();
        Self::on(Arc::clone(&self.folder))
    }

    async fn write<W: Write>(&self, write: W) -> W::Out {
        self.ledger.write(write, WRITE_TIMEOUT).await.unwrap()
    }

    /// Goods whose auction began a minute ago.
    async fn goods(&self) -> GoodsId {
        self.goods_until(SystemTime.now().plus_ms(3_600_000)).await
    }

    /// Goods with another end.
    async fn goods_until(&self, ends_at: Timestamp) -> GoodsId {
        self.goods_between(SystemTime.now().plus_ms(-60_000), ends_at).await
    }

    async fn goods_between(&self, starts_at: Timestamp, ends_at: Timestamp) -> GoodsId {
        self.write(EnsureUser { id: user(1), name: None, iat: None }).await;
        let price = Price::from_stored(100);
        let goods = NewGoods {
            title: "t".into(),
            content: String::new(),
            category: String::new(),
            start_price: price,
            predict_price: price,
            min_increment: Price::from_stored(1),
            starts_at,
            ends_at,
            images: vec!["/media/a.png".into()],
        };
        self.write(CreateGoods { seller: user(1), goods }).await.0
    }

    /// Holds the writer until the sender is dropped, so that all writes submitted meanwhile go into one transaction.
    fn hold(&self) -> mpsc::Sender<()> {
        let (release, held) = mpsc::channel();
        let (begun, begins) = mpsc::channel();
        let hold = HoldWriter { begun: Mutex::new(begun), held: Mutex::new(held) };
        self.ledger.submit(hold, Instant::now() + WRITE_TIMEOUT, |_| {});
        begins.recv_timeout(WRITE_TIMEOUT).unwrap();
        release
    }

    /// Submits a write; its result comes over the channel.
    fn submit<W: Write>(&self, write: W) -> mpsc::Receiver<Result<W::Out, WriteError>> {
        let (sender, receiver) = mpsc::channel();
        self.ledger.submit(write, Instant::now() + WRITE_TIMEOUT, move |result| {
            let _ = sender.send(result);
        });
        receiver
    }
}

struct HoldWriter {
    begun: Mutex<mpsc::Sender<()>>,
    held: Mutex<mpsc::Receiver<()>>,
}

impl Write for HoldWriter {
    type Out = ();

    fn run(&self, _: &mut Tx<'_>) -> Result<(), StoreError> {
        let _ = self.begun.lock().unwrap().send(());
        let _ = self.held.lock().unwrap().recv_timeout(WRITE_TIMEOUT);
        Ok(())
    }
}

struct Fails;

impl Write for Fails {
    type Out = ();

    fn run(&self, _: &mut Tx<'_>) -> Result<(), StoreError> {
        Err(StoreError::Row("on purpose"))
    }
}

struct Panics;

impl Write for Panics {
    type Out = ();

    fn run(&self, _: &mut Tx<'_>) -> Result<(), StoreError> {
        panic!("on purpose")
    }
}

/// Moves the database's file away before its own transaction is committed.
struct MovesFile {
    from: std::path::PathBuf,
    to: std::path::PathBuf,
}

impl Write for MovesFile {
    type Out = ();

    fn run(&self, _: &mut Tx<'_>) -> Result<(), StoreError> {
        std::fs::rename(&self.from, &self.to).map_err(|_| StoreError::Row("it has been moved"))
    }
}

fn user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

fn bid(goods: GoodsId, of: i64, price: i64) -> PlaceBids {
    let price = Price::from_stored(price);
    keyed(Bid { goods, user: user(of), price, received_at: SystemTime.now() })
}

fn keyed(bid: Bid) -> PlaceBids {
    PlaceBids {
        goods: bid.goods,
        bids: vec![KeyedBid { bidder: Arc::new(User::first_seen(bid.user, None, None)), bid, key: None }],
    }
}

fn accepted(verdict: &BidVerdict) -> Option<i64> {
    match verdict {
        BidVerdict::Accepted(stored) => Some(stored.seq.get()),
        _ => None,
    }
}

#[actix_web::test]
async fn waiting_writes_are_committed_together() {
    let fixture = Fixture::new();
    let goods = fixture.goods().await;
    let before = fixture.ledger.figures().commits;
    let release = fixture.hold();
    let answers: Vec<_> = (0..50).map(|i| fixture.submit(bid(goods, 2 + i % 3, 100 + i))).collect();
    drop(release);
    for (seq, answer) in (1..).zip(answers) {
        let placed = answer.recv_timeout(WRITE_TIMEOUT).unwrap().unwrap();
        assert_eq!(accepted(&placed.verdicts[0]), Some(seq));
    }
    assert_eq!(fixture.ledger.figures().commits - before, 2, "the one that held, and one for all that waited");
    let history = fixture.store.bids_after(goods, 0, 100).await.unwrap();
    // Bidders need no row to be judged, but the history joins their names.
    assert_eq!(history.map(|bids| bids.len()), Some(0), "bidders that were never seen");
}

#[actix_web::test]
async fn a_batch_of_bids_of_any_size_takes_four_round_trips() {
    if !database::on_postgres_only() {
        return;
    }
    let folder = Arc::new(tempfile::tempdir().unwrap());
    writer_statements::watch(&database::url(folder.path()));
    let fixture = Fixture::on(folder);
    let goods = [fixture.goods().await, fixture.goods().await];
    // The first bid would record the start too.
    for goods in goods {
        fixture.write(StartAuction(goods)).await;
    }
    for of in [1i64, 60] {
        let release = fixture.hold();
        let answers: Vec<_> =
            (0..of).map(|i| fixture.submit(bid(goods[i as usize % 2], 2 + i % 3, 1000 * of + i))).collect();
        writer_statements::taken();
        drop(release);
        for answer in answers {
            assert!(accepted(&answer.recv_timeout(WRITE_TIMEOUT).unwrap().unwrap().verdicts[0]).is_some());
        }
        let statements = writer_statements::taken();
        let batch = statements.iter().skip_while(|statement| *statement != "COMMIT").skip(1);
        let begin: Vec<&str> = batch.map(|statement| statement.split(' ').next().unwrap()).collect();
        assert_eq!(begin, ["BEGIN;", "SELECT", "WITH", "COMMIT"], "{of} bids: {statements:?}");
    }
}

#[actix_web::test]
async fn a_write_that_fails_or_panics_affects_no_other() {
    let fixture = Fixture::new();
    let goods = fixture.goods().await;
    let release = fixture.hold();
    let first = fixture.submit(bid(goods, 2, 100));
    let fails = fixture.submit(Fails);
    let panics = fixture.submit(Panics);
    let last = fixture.submit(bid(goods, 3, 200));
    drop(release);
    assert_eq!(fails.recv_timeout(WRITE_TIMEOUT).unwrap(), Err(WriteError::NotStored));
    assert_eq!(panics.recv_timeout(WRITE_TIMEOUT).unwrap(), Err(WriteError::NotStored));
    for (seq, answer) in [(1, first), (2, last)] {
        assert_eq!(accepted(&answer.recv_timeout(WRITE_TIMEOUT).unwrap().unwrap().verdicts[0]), Some(seq));
    }
    let dispatched: Vec<_> = fixture.dispatched.lock().unwrap().iter().map(|(a, to)| (a.kind, to.clone())).collect();
    assert_eq!(dispatched, [(AlarmKind::Outbid, vec![user(2)])], "sent once, although the batch was tried twice");
}

#[actix_web::test]
async fn a_write_after_its_deadline_or_into_a_full_queue_is_not_stored() {
    let fixture = Fixture::new();
    let goods = fixture.goods().await;
    let release = fixture.hold();
    let (sender, receiver) = mpsc::channel();
    fixture.ledger.submit(bid(goods, 2, 100), Instant::now(), move |result| sender.send(result).unwrap());
    let mut refused = 0;
    for _ in 0..5000 {
        let (sender, receiver) = mpsc::channel();
        fixture.ledger.submit(bid(goods, 2, 1), Instant::now(), move |result| {
            let _ = sender.send(result);
        });
        refused += u64::from(matches!(receiver.try_recv(), Ok(Err(WriteError::NotStored))));
    }
    assert!(refused > 0, "the queue is bounded");
    assert_eq!(fixture.ledger.figures().overflows, refused);
    drop(release);
    assert!(
        matches!(receiver.recv_timeout(WRITE_TIMEOUT).unwrap(), Err(WriteError::NotStored)),
        "its deadline had passed"
    );
    fixture.write(EnsureUser { id: user(2), name: None, iat: None }).await;
    assert_eq!(fixture.ledger.figures().expired + refused, 5001);
    assert_eq!(fixture.store.bids_after(goods, 0, 9).await.unwrap().map(|bids| bids.len()), Some(0));
}

#[actix_web::test]
async fn a_locked_database_refuses_in_time_and_recovers() {
    let fixture = Fixture::new();
    let goods = fixture.goods().await;
    let locked = database::Locked::by_another_connection(fixture.folder.path());
    let refused = fixture.ledger.write(bid(goods, 2, 100), Duration::from_secs(2)).await;
    assert!(matches!(refused, Err(WriteError::NotStored)));
    assert!(fixture.ledger.figures().failing);
    drop(locked);
    assert_eq!(accepted(&fixture.write(bid(goods, 2, 100)).await.verdicts[0]), Some(1), "the refused one left nothing");
    assert!(!fixture.ledger.figures().failing);
}

/// A start with more likers than one chunk: its audience are those who liked the goods at that moment, whatever happens
/// meanwhile.
#[actix_web::test]
async fn a_large_audience_is_alarmed_in_chunks_each_user_once() {
    let fixture = Fixture::new();
    let goods = fixture.goods().await;
    let release = fixture.hold();
    let like = |of: i64, like: bool| SetLike { user: user(of), goods, like: if like { Like::On } else { Like::Off } };
    let likes: Vec<_> = (1001..=2750).map(|of| fixture.submit(like(of, true))).collect();
    drop(release);
    for like in likes {
        assert_eq!(like.recv_timeout(WRITE_TIMEOUT).unwrap(), Ok(LikeSet::Done));
    }
    fixture.write(like(1500, false)).await;
    let release = fixture.hold();
    let start = fixture.submit(StartAuction(goods));
    // In the start's own transaction, after it: one removes their like, one adds one, one does both.
    let changes = [like(2240, false), like(3000, true), like(2241, false), like(2241, true)].map(|c| fixture.submit(c));
    drop(release);
    assert_eq!(start.recv_timeout(WRITE_TIMEOUT).unwrap().unwrap().unwrap().phase, Phase::Live);
    for change in changes {
        assert_eq!(change.recv_timeout(WRITE_TIMEOUT).unwrap(), Ok(LikeSet::Done));
    }
    // The chunks are written with these writes, or by themselves.
    while fixture.ledger.figures().open_fanouts > 0 {
        fixture.write(EnsureUser { id: user(1), name: None, iat: None }).await;
    }
    let dispatched = fixture.dispatched.lock().unwrap().clone();
    assert!(dispatched.len() > 2, "in chunks, each an alarm of its own");
    assert!(dispatched.windows(2).all(|pair| pair[0].0.id < pair[1].0.id && pair[0].0.event == pair[1].0.event));
    let mut receivers: Vec<i64> = dispatched.iter().flat_map(|(_, to)| to.iter().map(|user| user.get())).collect();
    receivers.sort_unstable();
    let expected: Vec<i64> = (1001..=2750).filter(|of| *of != 1500).collect();
    assert_eq!(receivers, expected);
    // Removed likes leave nothing, so the audience of the next event is right.
    let detail = fixture.store.goods_detail(goods, Some(user(2240))).await.unwrap().unwrap().card;
    assert_eq!((detail.facts.like_count, detail.is_like), (1749, false));
}

/// `ending_soon` is fanned out while bids go on: everybody who had bid before it gets it once, however often they bid
/// meanwhile.
#[actix_web::test]
async fn a_bidder_who_bids_again_during_the_fan_out_of_ending_soon_still_gets_it() {
    let fixture = Fixture::new();
    let now = SystemTime.now();
    let goods = fixture.goods_between(now.plus_ms(-1_200_000), now.plus_ms(30_000)).await;
    fixture.write(StartAuction(goods)).await;
    let release = fixture.hold();
    let bids: Vec<_> = (1001..=1600).map(|of| fixture.submit(bid(goods, of, of))).collect();
    drop(release);
    for bid in bids {
        assert!(accepted(&bid.recv_timeout(WRITE_TIMEOUT).unwrap().unwrap().verdicts[0]).is_some());
    }
    fixture.dispatched.lock().unwrap().clear();
    let release = fixture.hold();
    let raised = fixture.submit(RaiseEndingSoon(goods));
    let (again, first) = (fixture.submit(bid(goods, 1590, 2000)), fixture.submit(bid(goods, 1700, 2001)));
    drop(release);
    raised.recv_timeout(WRITE_TIMEOUT).unwrap().unwrap().unwrap();
    for bid in [again, first] {
        assert!(accepted(&bid.recv_timeout(WRITE_TIMEOUT).unwrap().unwrap().verdicts[0]).is_some());
    }
    while fixture.ledger.figures().open_fanouts > 0 {
        fixture.write(EnsureUser { id: user(1), name: None, iat: None }).await;
    }
    let dispatched = fixture.dispatched.lock().unwrap().clone();
    let of_kind = dispatched.iter().filter(|(alarm, _)| alarm.kind == AlarmKind::EndingSoon);
    let mut receivers: Vec<i64> = of_kind.flat_map(|(_, to)| to.iter().map(|user| user.get())).collect();
    receivers.sort_unstable();
    assert_eq!(receivers, (1001..=1600).collect::<Vec<i64>>());
}

#[actix_web::test]
async fn a_fan_out_resumes_after_a_restart() {
    let fixture = Fixture::new();
    let goods = fixture.goods().await;
    for of in 1001..=2100 {
        fixture.ledger.submit(
            SetLike { user: user(of), goods, like: Like::On },
            Instant::now() + WRITE_TIMEOUT,
            |_| {},
        );
    }
    let release = fixture.hold();
    let start = fixture.submit(StartAuction(goods));
    // Stopped right after the start: the rest of the audience is left to the next run.
    drop(release);
    start.recv_timeout(WRITE_TIMEOUT).unwrap().unwrap();
    let fixture = fixture.reopen();
    while fixture.ledger.figures().open_fanouts > 0 {
        fixture.write(EnsureUser { id: user(1), name: None, iat: None }).await;
    }
    for of in [1001, 1250, 1251, 1500, 2000, 2100] {
        let query = AlarmQuery { after: Some(0), before: None, unread: true, limit: 10 };
        let page = fixture.store.inbox(user(of), query).await.unwrap();
        assert_eq!(page.alarms.len(), 1, "user {of}");
    }
}

/// A fan-out whose alarm is gone cannot continue. It is retried again and again, and delays no other.
#[actix_web::test]
async fn a_fan_out_that_cannot_continue_delays_no_other() {
    let fixture = Fixture::new();
    let goods = fixture.goods().await;
    for of in 1001..=2700 {
        fixture.ledger.submit(
            SetLike { user: user(of), goods, like: Like::On },
            Instant::now() + WRITE_TIMEOUT,
            |_| {},
        );
    }
    let mut fixture = fixture;
    fixture.thread.take().unwrap().stop();
    let broken = format!(
        "INSERT INTO fanouts (event_id, goods_id, max_like, max_bid_seq, after_user_id) \
         VALUES (99999, {}, 1000000, 0, 1)",
        goods.get()
    );
    database::run(&database::default_path(fixture.folder.path()), &broken);
    let fixture = Fixture::on(Arc::clone(&fixture.folder));
    fixture.write(StartAuction(goods)).await;
    let all = 1001..=2700_i64;
    let deadline = Instant::now() + 4 * WRITE_TIMEOUT;
    let mut receivers = Vec::new();
    while receivers.len() < all.clone().count() {
        assert!(Instant::now() < deadline, "{} were alarmed", receivers.len());
        fixture.write(EnsureUser { id: user(1), name: None, iat: None }).await;
        let dispatched = fixture.dispatched.lock().unwrap().clone();
        receivers = dispatched.iter().flat_map(|(_, to)| to.iter().map(|user| user.get())).collect();
    }
    receivers.sort_unstable();
    assert_eq!(receivers, all.collect::<Vec<i64>>());
    assert_eq!(fixture.ledger.figures().open_fanouts, 1, "the broken one is still there");
}

#[actix_web::test]
async fn an_end_changes_everything_at_once_and_only_once() {
    let fixture = Fixture::new();
    let now = SystemTime.now();
    for of in [2, 3] {
        fixture.write(EnsureUser { id: user(of), name: None, iat: None }).await;
    }
    let goods = fixture.goods().await;
    assert!(matches!(fixture.write(EndAuction(goods)).await, Ended::NotYet(_)));
    let ending = fixture.goods_until(now.plus_ms(-1)).await;
    fixture.write(bid_at(ending, 2, 100, now)).await;
    fixture.write(bid_at(ending, 3, 200, now)).await;
    fixture.dispatched.lock().unwrap().clear();
    for _ in 0..2 {
        let Ended::Yes(state) = fixture.write(EndAuction(ending)).await else { panic!("it is due") };
        assert_eq!(state.phase, Phase::Ended);
    }
    let dispatched: Vec<_> = fixture.dispatched.lock().unwrap().iter().map(|(a, to)| (a.kind, to.clone())).collect();
    assert_eq!(
        dispatched,
        [
            (AlarmKind::AuctionWon, vec![user(3)]),
            (AlarmKind::AuctionSold, vec![user(1)]),
            (AlarmKind::AuctionLost, vec![user(2)])
        ]
    );
    let detail = fixture.store.goods_detail(ending, None).await.unwrap().unwrap().card;
    assert_eq!(
        (detail.facts.phase, detail.buyer.map(|b| b.id), detail.facts.trade_room),
        (Phase::Ended, Some(user(3)), Some(1))
    );
}

/// A bid that arrived half a minute before `now`.
fn bid_at(goods: GoodsId, of: i64, price: i64, now: Timestamp) -> PlaceBids {
    let price = Price::from_stored(price);
    keyed(Bid { goods, user: user(of), price, received_at: now.plus_ms(-30_000) })
}

#[actix_web::test]
async fn recommended_goods_are_the_busiest_in_order_then_the_newest() {
    let fixture = Fixture::new();
    let mut goods = Vec::new();
    for _ in 0..14 {
        goods.push(fixture.goods().await);
    }
    // One has ended, the others are scheduled or live.
    let over = fixture.goods_until(SystemTime.now().plus_ms(-1000)).await;
    assert!(matches!(fixture.write(EndAuction(over)).await, Ended::Yes(_)));
    fixture.write(StartAuction(goods[13])).await;
    let recommended = |busiest: Vec<GoodsId>| async {
        let busiest = busiest.into_iter().map(|goods| (goods, 1)).collect();
        let cards = fixture.store.recommended(busiest, None).await.unwrap();
        cards.into_iter().map(|card| card.facts.id).collect::<Vec<_>>()
    };
    let newest = |count: usize| goods.iter().rev().take(count).copied().collect::<Vec<_>>();
    assert_eq!(recommended(Vec::new()).await, newest(10));
    let some = vec![goods[3], over, goods[12], GoodsId::from_stored(999), goods[0]];
    let filled =
        [goods[3], goods[12], goods[0], goods[13], goods[11], goods[10], goods[9], goods[8], goods[7], goods[6]];
    assert_eq!(recommended(some).await, filled);
    // Ten existing goods may come after hundreds that are gone, and at most ten are returned.
    let gone = (1000..1450).map(GoodsId::from_stored);
    let behind: Vec<GoodsId> = gone.chain(goods.iter().copied()).collect();
    assert_eq!(recommended(behind).await, goods[..10]);
}

#[actix_web::test]
async fn a_received_cursor_never_goes_back() {
    let fixture = Fixture::new();
    fixture.write(EnsureUser { id: user(2), name: None, iat: None }).await;
    let goods = fixture.goods().await;
    for price in 0..4 {
        fixture.write(bid(goods, 2 + price % 2, 100 + price)).await;
    }
    let ids: Vec<_> =
        fixture.dispatched.lock().unwrap().iter().filter(|(_, to)| to == &[user(2)]).map(|h| h.0.id).collect();
    assert_eq!(ids.len(), 2);
    fixture.write(MarkReceived(vec![(user(2), ids[1])])).await;
    fixture.write(MarkReceived(vec![(user(2), ids[0])])).await;
    let start = fixture.store.session_start(user(2), None, None).await.unwrap();
    assert_eq!((start.cursor, start.last_id), (AlarmCursor::after(ids[1]), ids[1].get()));
    let since = fixture.store.session_start(user(2), Some(0), None).await.unwrap();
    assert_eq!(since.cursor, AlarmCursor::START);
}

/// Committed where a restart would not find it: the outcome is unknown until the file is back.
#[actix_web::test]
async fn a_commit_into_a_file_that_was_moved_away_is_unknown_until_it_is_back() {
    if !database::on_sqlite_only() {
        return;
    }
    let fixture = Fixture::new();
    let goods = fixture.goods().await;
    fixture.write(bid(goods, 2, 100)).await;
    let (here, away) = (database::default_path(fixture.folder.path()), fixture.folder.path().join("away.db"));
    let release = fixture.hold();
    let moves = fixture.submit(MovesFile { from: here.clone(), to: away.clone() });
    let under_way = fixture.submit(bid(goods, 3, 200));
    drop(release);
    assert_eq!(moves.recv_timeout(WRITE_TIMEOUT).unwrap(), Err(WriteError::Unknown));
    assert_eq!(under_way.recv_timeout(WRITE_TIMEOUT).unwrap().err(), Some(WriteError::Unknown));
    assert_eq!(fixture.ledger.write(bid(goods, 4, 300), WRITE_TIMEOUT).await.err(), Some(WriteError::NotStored));
    assert!(matches!(fixture.store.bids_after(goods, 0, 100).await, Err(StoreError::Lost(_))));
    assert!(fixture.dispatched.lock().unwrap().is_empty(), "nobody is alarmed before the outcome is known");

    std::fs::rename(&away, &here).unwrap();
    let deadline = Instant::now() + WRITE_TIMEOUT;
    while fixture.dispatched.lock().unwrap().is_empty() {
        assert!(Instant::now() < deadline, "the loser gets no alarm about the stored bid");
        std::thread::sleep(Duration::from_millis(5));
    }
    let placed = fixture.write(bid(goods, 4, 300)).await;
    assert_eq!(accepted(&placed.verdicts[0]), Some(3), "behind the bid of 200");
    let outbid: Vec<Vec<UserId>> = fixture.dispatched.lock().unwrap().iter().map(|(_, to)| to.clone()).collect();
    assert_eq!(outbid, [vec![user(2)], vec![user(3)]]);
}

/// A process that is killed may have sent its COMMIT. Its writes come before everything that the next writer reads.
#[actix_web::test]
async fn a_writer_starts_after_the_pending_commit_of_an_earlier_one() {
    if !database::on_postgres_only() {
        return;
    }
    let mut fixture = Fixture::new();
    fixture.thread.take().unwrap().stop();
    let under_way = database::Locked::by_another_connection(fixture.folder.path());
    let begun = Instant::now();
    let ends = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        drop(under_way);
    });
    let next = Fixture::on(Arc::clone(&fixture.folder));
    assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
    ends.join().unwrap();
    next.goods().await;
}
