//! A whole day of thousands of auctions in seconds: starts, last minutes and ends, bids around each of them, midnight,
//! stops of the service, and clock steps forward and back. After each step the dispatched alarms are compared with the
//! contract's (`model`), at the end also what is stored.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod clock;
#[path = "../support/database.rs"]
mod database;
mod model;
#[path = "../front_door/support/random.rs"]
#[allow(dead_code)]
mod random;
mod stored;
mod test_service;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Instant,
};

use futures_util::future::join_all;
use handsup::test_support::{
    domain::{AlarmId, AlarmKind, DraftRules, GoodsDraft, GoodsId, Phase, Price, StartInput, Timestamp, UserId},
    store::writes::{CreateGoods, EnsureUser, Like, LikeSet, SetLike},
};
use rand::{RngExt, rngs::StdRng, seq::IndexedRandom};

use model::{Auction, Auctions, LastMinute, SentAlarm};
use test_service::{DayTime, DispatchedAlarms, TestService};

const AUCTIONS: usize = 3000;
const DAY_MS: i64 = 86_400_000;
const MINUTE_MS: i64 = 60_000;
const SELLERS: std::ops::Range<i64> = 1..40;
/// Sellers bid too.
const BIDDERS: std::ops::Range<i64> = 30..230;
/// Likers of the few goods that everybody likes: more than one chunk of alarms.
const LARGE_AUDIENCE: std::ops::Range<i64> = 1000..1620;

/// 12:00 in Seoul, so that half of the day is on the next date.
fn begin() -> Timestamp {
    Timestamp::parse_rfc3339("2026-11-22T03:00:00Z").unwrap()
}

struct Day {
    rng: StdRng,
    folder: tempfile::TempDir,
    time: Arc<DayTime>,
    now: Timestamp,
    auctions: Auctions,
    /// Auctions that have not ended.
    open: BTreeSet<i64>,
    dispatched: DispatchedAlarms,
    /// The alarms of each user, in order.
    inboxes: BTreeMap<i64, Vec<(AlarmId, AlarmKind, i64)>>,
    once: BTreeSet<SentAlarm>,
    last_alarm: Option<AlarmId>,
    /// Alarms that are expected since the last comparison.
    expected: Vec<SentAlarm>,
    /// Who was concerned by last minutes before the step. A user who came since may get the alarm or not.
    concerned: Option<BTreeMap<i64, BTreeSet<i64>>>,
    /// Steps since the service was started or the clock was set forward.
    quiet_steps: u32,
    soft_ms: i64,
    figures: Figures,
}

#[derive(Debug, Default)]
struct Figures {
    lives: u32,
    steps: u32,
    back: u32,
    forth: u32,
    bids: usize,
    accepted: usize,
    moved_ends: usize,
    max_live: usize,
}

/// The next move of the day.
enum Move {
    On,
    Set(Timestamp),
    /// Down for this many milliseconds.
    Down(i64),
}

#[test]
fn a_day_of_thousands_of_auctions_keeps_every_promise() {
    let begun = Instant::now();
    let mut day = Day::new(random::rng("a_day_of_thousands_of_auctions_keeps_every_promise"));
    while !day.is_over() {
        // Everything of one life that has not ended by itself ends with its system.
        actix::System::new().block_on(day.live());
    }
    actix::System::new().block_on(day.check_stored());
    eprintln!("{:?} in {:?}", day.figures, begun.elapsed());
    assert!(day.figures.lives > 2 && day.figures.back > 2 && day.figures.accepted > 1000, "{:?}", day.figures);
}

impl Day {
    fn new(rng: StdRng) -> Self {
        Self {
            rng,
            // In memory where possible: this test commits all day, and other tests are about what survives.
            folder: tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap(),
            time: DayTime::at(begin()),
            now: begin(),
            auctions: Auctions::new(),
            open: BTreeSet::new(),
            dispatched: DispatchedAlarms::default(),
            inboxes: BTreeMap::new(),
            once: BTreeSet::new(),
            last_alarm: None,
            expected: Vec::new(),
            concerned: None,
            quiet_steps: 0,
            soft_ms: 0,
            figures: Figures::default(),
        }
    }

    fn database(&self) -> PathBuf {
        self.folder.path().join("day.db")
    }

    fn is_over(&self) -> bool {
        self.auctions.len() == AUCTIONS && self.open.is_empty()
    }

    fn set(&mut self, now: Timestamp) {
        self.now = now;
        self.time.set(now);
    }

    /// One life of the service, with its own settings.
    async fn live(&mut self) {
        self.soft_ms = *[0, 30_000].choose(&mut self.rng).unwrap();
        let service =
            TestService::open(&self.database(), Arc::clone(&self.time), self.soft_ms, Arc::clone(&self.dispatched));
        self.quiet_steps = 0;
        self.figures.lives += 1;
        if self.figures.lives == 1 {
            join_all(
                SELLERS
                    .chain(BIDDERS)
                    .chain(LARGE_AUDIENCE)
                    .map(|id| service.write(EnsureUser { id: UserId::from_stored(id), name: None, iat: None })),
            )
            .await;
        }
        while !self.is_over() {
            let amid = self.rng.random_ratio(1, 400);
            self.step(&service, amid).await;
            if amid {
                // The next life finds this moment's work half done.
                break;
            }
            match self.next_move() {
                Move::On => {
                    let next = self.next_moment();
                    self.set(next);
                }
                Move::Set(now) => self.set(now),
                Move::Down(ms) => {
                    service.stop();
                    return self.set(self.now.plus_ms(ms));
                }
            }
        }
        service.stop();
    }

    /// What happens at one moment: bids before and after the clock has ticked, then sellers and likers.
    async fn step(&mut self, service: &TestService, amid: bool) {
        self.figures.steps += 1;
        if self.concerned.is_none() {
            let now = self.now;
            let near =
                self.open.iter().map(|id| &self.auctions[id]).filter(|auction| auction.is_in_or_past_last_minute(now));
            self.concerned = Some(near.map(|auction| (auction.id, auction.concerned())).collect());
        }
        if amid || self.rng.random_ratio(1, 2) {
            self.bids(service).await;
        }
        if amid {
            return;
        }
        service.settle().await;
        self.settled(&self.open.clone());
        if self.rng.random_ratio(1, 2) {
            self.bids(service).await;
        }
        let new = self.make_goods(service).await;
        if !new.is_empty() {
            service.settle().await;
            self.settled(&new);
        }
        self.compare_alarms();
        self.likes(service).await;
        self.quiet_steps += 1;
    }

    fn next_move(&mut self) -> Move {
        match self.rng.random_range(0..1000) {
            0..2 => Move::Down(self.rng.random_range(1000..3 * 3_600_000)),
            2..5 => Move::Down(self.rng.random_range(0..2 * MINUTE_MS)),
            5..50 => {
                self.figures.forth += 1;
                self.quiet_steps = 0;
                Move::Set(self.now.plus_ms(self.rng.random_range(MINUTE_MS..15 * MINUTE_MS)))
            }
            50..65 => {
                self.figures.back += 1;
                Move::Set(self.now.plus_ms(-self.rng.random_range(1..30 * MINUTE_MS)))
            }
            _ => Move::On,
        }
    }

    /// A little later, often exactly when something is due, or the last microsecond before it.
    fn next_moment(&mut self) -> Timestamp {
        let all_made = self.auctions.len() == AUCTIONS;
        let most = if all_made { 15 * MINUTE_MS } else { 80_000 };
        if all_made {
            // Such steps go further than the clock has read.
            self.quiet_steps = 0;
        }
        let later = self.now.plus_ms(self.rng.random_range(1..most));
        if self.rng.random_ratio(1, 2) {
            return later;
        }
        let now = self.now;
        let last_minute = self.open.iter().map(|id| &self.auctions[id]).flat_map(|auction| {
            let last_minute = auction.ends_at.plus_ms(-MINUTE_MS);
            [auction.starts_at, last_minute, auction.ends_at].into_iter().filter(move |at| *at > now && *at <= later)
        });
        let dues: Vec<Timestamp> = last_minute.collect();
        let Some(due) = dues.choose(&mut self.rng) else { return later };
        let beside = *[-1, 0, 0, 1, 1000].choose(&mut self.rng).unwrap();
        Timestamp::from_micros((due.micros() + beside).max(now.micros() + 1))
    }

    /// Many bids at once: on auctions near their start or end, on some others, and on ended ones.
    async fn bids(&mut self, service: &TestService) {
        let now = self.now;
        let near = |at: Timestamp| at.ms_since(now).abs() < 2000;
        let hot = |auction: &Auction| near(auction.starts_at) || near(auction.ends_at) || auction.in_last_minute(now);
        let mut targets: Vec<i64> = self.open.iter().copied().filter(|id| hot(&self.auctions[id])).take(8).collect();
        let live: Vec<i64> = self.open.iter().copied().filter(|id| self.auctions[id].phase == Phase::Live).collect();
        self.figures.max_live = self.figures.max_live.max(live.len());
        targets.extend(live.sample(&mut self.rng, 3));
        if !self.auctions.is_empty() {
            targets.extend((0..2).map(|_| self.rng.random_range(1..=self.auctions.len() as i64)));
        }
        let mut sent = Vec::new();
        for goods in targets {
            for _ in 0..self.rng.random_range(1..3) {
                let auction = &self.auctions[&goods];
                let price = (auction.minimum() + self.rng.random_range(-2..8) * auction.increment).max(1);
                let user = self.rng.random_range(BIDDERS);
                sent.push((goods, (user, price), service.bid(goods, user, price)));
            }
        }
        for (goods, bid, answer) in sent {
            let answer = answer.await.expect("every bid is answered");
            let auction = self.auctions.get_mut(&goods).unwrap();
            let (bids, ends_at) = (auction.bids.len(), auction.ends_at);
            self.expected.extend(auction.answered(bid, now, self.soft_ms, &answer));
            self.figures.bids += 1;
            self.figures.accepted += auction.bids.len() - bids;
            self.figures.moved_ends += usize::from(auction.ends_at > ends_at);
        }
    }

    /// The clock has done what is due, and so does the model.
    fn settled(&mut self, auctions: &BTreeSet<i64>) {
        // Right after a start or a jump of the clock, deadlines may still be being read.
        let certain = self.quiet_steps > 1;
        let before = self.concerned.as_ref().unwrap();
        for id in auctions {
            let auction = self.auctions.get_mut(id).unwrap();
            let concerned = before.get(id).is_some_and(|concerned| !concerned.is_empty());
            self.expected.extend(auction.settled(self.now, certain, concerned));
            if auction.phase == Phase::Ended {
                self.open.remove(id);
            }
        }
    }

    /// Sellers make goods, evenly over the day.
    async fn make_goods(&mut self, service: &TestService) -> BTreeSet<i64> {
        let share = (self.now.ms_since(begin()) as f64 / DAY_MS as f64).clamp(0.0, 1.0);
        // Sometimes also while the clock, set back, passes hours that it has seen before.
        let now_and_then = self.auctions.len() + self.rng.random_range(0..3);
        let by_now = ((AUCTIONS as f64 * share) as usize).max(now_and_then).min(AUCTIONS);
        let missing = by_now - self.auctions.len();
        let drafts: Vec<_> = (0..missing).map(|_| self.draft()).collect();
        let rules = DraftRules { time_zone: chrono_tz::Asia::Seoul, duration_s: 1200 };
        let mut new = BTreeSet::new();
        let now = self.now;
        let made = drafts.into_iter().map(|(mut auction, draft)| async move {
            let seller = UserId::from_stored(auction.seller);
            let goods = draft.check(None, &rules, now).expect("a good draft");
            assert_eq!((goods.starts_at, goods.ends_at), (auction.starts_at, auction.ends_at));
            auction.id = service.write(CreateGoods { seller, goods }).await.0.get();
            auction
        });
        for auction in join_all(made).await {
            new.insert(auction.id);
            self.auctions.insert(auction.id, auction);
        }
        self.open.extend(&new);
        new
    }

    fn draft(&mut self) -> (Auction, GoodsDraft) {
        let rng = &mut self.rng;
        let mut starts_at = match rng.random_range(0..5) {
            0 => self.now.plus_ms(-rng.random_range(0..50_000)),
            1 => self.now.plus_ms(rng.random_range(0..20 * MINUTE_MS)),
            _ => self.now.plus_ms(rng.random_range(0..360 * MINUTE_MS)),
        };
        let mut start = StartInput::Instant(starts_at.rfc3339());
        starts_at = Timestamp::from_micros(starts_at.micros() / 1000 * 1000);
        if rng.random_ratio(1, 3) && starts_at > self.now.plus_ms(MINUTE_MS) {
            starts_at = Timestamp::from_secs(starts_at.secs() / 60 * 60);
            // Seoul is nine hours ahead of UTC, in summer and winter.
            let minutes = (starts_at.secs() - begin().secs()) / 60 + 12 * 60;
            let (day, hour, minute) = (22 + minutes / 1440, minutes / 60 % 24, minutes % 60);
            start = StartInput::Local { date: format!("2026-11-{day}"), time: format!("{hour}:{minute:02}") };
        }
        let lasts_s = match rng.random_range(0..10) {
            0..3 => rng.random_range(1..200),
            3..5 => rng.random_range(300..3600),
            _ => rng.random_range(3600..16 * 3600),
        };
        let (start_price, increment) = (rng.random_range(1..1000), rng.random_range(1..20));
        let auction = Auction {
            id: 0,
            seller: rng.random_range(SELLERS),
            start_price,
            increment,
            starts_at,
            ends_at: starts_at.plus_ms(lasts_s * 1000),
            phase: Phase::Scheduled,
            likers: BTreeSet::new(),
            bids: Vec::new(),
            last_minute: LastMinute::default(),
        };
        let price = Price::from_stored(start_price);
        let draft = GoodsDraft {
            title: Some("t".into()),
            start_price: Some(price),
            start: Some(start),
            duration_s: Some(lasts_s),
            min_increment: Some(Price::from_stored(increment)),
            ..GoodsDraft::default()
        };
        (auction, draft)
    }

    /// Some users like goods, some remove their like; now and then everybody likes the same goods.
    async fn likes(&mut self, service: &TestService) {
        let open: Vec<i64> = self.open.iter().copied().collect();
        let mut likes = Vec::new();
        for _ in 0..4 {
            let Some(goods) = open.choose(&mut self.rng) else { return };
            likes.push((*goods, self.rng.random_range(BIDDERS), self.rng.random_ratio(4, 5)));
        }
        if self.figures.steps % 400 == 100 {
            let waits = |id: &&i64| self.auctions[*id].phase == Phase::Scheduled;
            let ahead: Vec<i64> = open.iter().filter(waits).copied().collect();
            if let Some(goods) = ahead.choose(&mut self.rng) {
                likes.extend(LARGE_AUDIENCE.map(|user| (*goods, user, true)));
            }
        }
        for (goods, user, like) in &likes {
            let likers = &mut self.auctions.get_mut(goods).unwrap().likers;
            if *like {
                likers.insert(*user)
            } else {
                likers.remove(user)
            };
        }
        let set = |(goods, user, like)| {
            service.write(SetLike {
                user: UserId::from_stored(user),
                goods: GoodsId::from_stored(goods),
                like: if like { Like::On } else { Like::Off },
            })
        };
        assert!(join_all(likes.into_iter().map(set)).await.into_iter().all(|set| set == LikeSet::Done));
    }

    /// Asserts that the alarms since the last comparison are the expected ones: each once, to nobody else, with rising
    /// ids.
    fn compare_alarms(&mut self) {
        let dispatched = self.dispatched.lock().unwrap().split_off(0);
        let mut sent = Vec::new();
        let mut last_minutes: BTreeMap<i64, (Timestamp, BTreeSet<i64>)> = BTreeMap::new();
        for (alarm, receivers) in dispatched {
            assert!(self.last_alarm < Some(alarm.id), "ids rise in commit order: {alarm:?}");
            self.last_alarm = Some(alarm.id);
            let goods = alarm.goods.unwrap().get();
            for user in receivers {
                let one = (alarm.kind, goods, user.get());
                self.inboxes.entry(user.get()).or_default().push((alarm.id, alarm.kind, goods));
                assert!(alarm.kind == AlarmKind::Outbid || self.once.insert(one), "sent twice: {one:?}");
                match alarm.kind {
                    AlarmKind::EndingSoon => {
                        let minute = last_minutes.entry(goods).or_insert((alarm.created_at, BTreeSet::new()));
                        minute.1.insert(user.get());
                    }
                    _ => sent.push(one),
                }
            }
        }
        let mut expected = std::mem::take(&mut self.expected);
        sent.sort_unstable();
        expected.sort_unstable();
        assert_eq!(sent, expected, "at {:?}", self.now);
        let before = self.concerned.take().unwrap();
        for (goods, (at, sent)) in last_minutes {
            let auction = self.auctions.get_mut(&goods).unwrap();
            let in_time = auction.is_in_or_past_last_minute(at) && at < auction.ends_at;
            assert!(in_time && !auction.last_minute.sent, "at {:?}: {auction:?}", self.now);
            auction.last_minute.sent = true;
            if at != self.now {
                // Dispatched after the last settled moment, while users changed their likes: the clock had only just
                // read of it.
                assert!(!auction.last_minute.certain, "late, at {:?}: {auction:?}", self.now);
                continue;
            }
            let meant =
                before.get(&goods).is_none_or(|must| must.is_subset(&sent)) && sent.is_subset(&auction.concerned());
            assert!(meant, "at {:?}: {sent:?}, {auction:?}", self.now);
        }
    }
}
