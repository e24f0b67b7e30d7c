//! A big start: goods that a hundred thousand users like become live while ten thousand of them are connected and others
//! bid on other goods. How soon is the last one told, and what do the bidders notice?
//!
//! `cargo bench --bench big_start -- LIKERS=1000 SOCKETS=100`; all sizes are in `Sizes`. The server is the real program,
//! as a process of its own; who listens and who bids are a thread each of this one. The reference for the bids during
//! the start are the bids before it, in the same run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs)]

#[path = "big_start/bidders.rs"]
mod bidders;
#[path = "support/listeners.rs"]
mod listeners;
#[path = "../tests/front_door/support/seed.rs"]
mod seed;
#[path = "support/server.rs"]
mod server;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use handsup::{
    domain::{Timestamp, UserId},
    http::{Keys, NewToken},
    time_source::{SystemTime, TimeSource},
};

use self::{
    bidders::{Bid, Bidders},
    listeners::{Listeners, Opening},
    seed::Seed,
    server::{Server, own_cpu},
};

const SELLER: i64 = 1;
const FIRST_BIDDER: i64 = 100;
const FIRST_LIKER: i64 = 10_000;
/// Bids are looked at for at least so long before the start, and for so long after its last frame.
const BEFORE: Duration = Duration::from_secs(6);
/// The figures to reach.
const LAST_FRAME: Duration = Duration::from_millis(1500);
const P99_RATIO: f64 = 2.0;

/// What can be set, as `NAME=value`.
struct Sizes {
    likers: i64,
    sockets: i64,
    bidders: i64,
    /// Other goods, that the bidders bid on.
    goods: usize,
    /// A bidder's pause between an answer and his next bid.
    pause: Duration,
}

impl Sizes {
    fn from_arguments() -> Self {
        let mut sizes = Self { likers: 100_000, sockets: 10_000, bidders: 64, goods: 10, pause: Duration::ZERO };
        for argument in std::env::args().skip(1).filter(|argument| !argument.starts_with("--")) {
            let (name, value) = argument.split_once('=').expect("NAME=value");
            let value: u32 = value.parse().expect("a number");
            match name {
                "LIKERS" => sizes.likers = value.into(),
                "SOCKETS" => sizes.sockets = value.into(),
                "BIDDERS" => sizes.bidders = value.into(),
                "GOODS" => sizes.goods = value as usize,
                "PAUSE_MS" => sizes.pause = Duration::from_millis(value.into()),
                _ => panic!("{name}: LIKERS, SOCKETS, BIDDERS, GOODS or PAUSE_MS"),
            }
        }
        assert!(sizes.sockets <= sizes.likers, "every socket is a liker's");
        sizes
    }

    /// Who of the likers is connected: from the first to the last of them, evenly.
    fn connected(&self) -> Vec<i64> {
        (0..self.sockets).map(|nth| FIRST_LIKER + nth * self.likers / self.sockets).collect()
    }
}

/// What the database has when the server opens it.
struct Seeded {
    starts_at: Timestamp,
    others: Vec<i64>,
}

/// The start is set for a moment when everybody will be connected and the bids before it measured: how fast this
/// machine writes is learned from the users.
fn seed(database: &Path, sizes: &Sizes) -> Seeded {
    let seed = Seed::open(&format!("sqlite://{}", database.display()));
    let likers = FIRST_LIKER..FIRST_LIKER + sizes.likers;
    let begun = Instant::now();
    seed.users([SELLER].into_iter().chain(FIRST_BIDDER..FIRST_BIDDER + sizes.bidders).chain(likers.clone()));
    let likes_take = begun.elapsed() * 2;
    let connecting_takes = Duration::from_secs(3) + Duration::from_micros(600) * sizes.sockets as u32;
    let others = seed.goods(SELLER, "other", (0..sizes.goods).map(|_| SystemTime.now()));
    let starts_at = SystemTime.now().plus_ms((likes_take + connecting_takes + BEFORE * 3 / 2).as_millis() as i64);
    let big = seed.goods(SELLER, "big", [starts_at]);
    seed.likes(&big, likers);
    seed.finish();
    println!("seeded in {:.1} s", begun.elapsed().as_secs_f64());
    Seeded { starts_at, others }
}

/// A token for an hour.
fn token(user: i64) -> String {
    let new = NewToken { user: UserId::from_stored(user), username: None, ttl_s: 3600, admin: false };
    Keys::new(server::SECRET, None).mint(&new, SystemTime.now()).unwrap()
}

/// That moment on the clock that only goes forward.
fn instant(at: Timestamp) -> Instant {
    Instant::now() + Duration::from_millis(at.ms_since(SystemTime.now()).max(0).unsigned_abs())
}

fn sleep_until(moment: Instant) {
    std::thread::sleep(moment.saturating_duration_since(Instant::now()));
}

/// A stretch of the run: who used how much CPU in it.
struct Stretch {
    from: Instant,
    to: Instant,
    threads: Vec<(String, Duration)>,
    server: Duration,
    clients: Duration,
}

impl Stretch {
    fn begin(server: &Server) -> impl FnOnce(&Server) -> Stretch {
        let (from, cpu, own) = (Instant::now(), server.cpu(), own_cpu());
        move |server: &Server| {
            let (threads, all) = server.cpu().since(&cpu);
            Stretch { from, to: Instant::now(), threads, server: all, clients: own_cpu().since(&own).1 }
        }
    }

    fn lasts(&self) -> f64 {
        (self.to - self.from).as_secs_f64()
    }

    /// Prints the accepted bids of this stretch; returns their p99 in ms.
    fn report(&self, name: &str, bids: &[Bid]) -> f64 {
        let within = |bid: &&Bid| bid.sent_at >= self.from && bid.sent_at < self.to;
        let mut took: Vec<Duration> =
            bids.iter().filter(within).filter(|bid| bid.accepted).map(|bid| bid.took).collect();
        took.sort_unstable();
        let ms = |part: f64| {
            let at = ((took.len() as f64 * part) as usize).min(took.len().saturating_sub(1));
            took.get(at).map_or(f64::NAN, |took| took.as_secs_f64() * 1e3)
        };
        let rate = took.len() as f64 / self.lasts();
        let percent = |spent: Duration| 100.0 * spent.as_secs_f64() / self.lasts();
        let thread = |(name, spent): &(String, Duration)| format!("{name} {:.0} %", percent(*spent));
        let threads: Vec<String> = self.threads.iter().map(thread).collect();
        println!(
            "{name:<14} {:>6.2} s {rate:>8.0} {:>8.2} {:>8.2} {:>8.2} {:>8.0} % {:>8.0} %   {}",
            self.lasts(),
            ms(0.5),
            ms(0.99),
            ms(1.0),
            percent(self.server),
            percent(self.clients),
            threads.join(", "),
        );
        ms(0.99)
    }
}

fn main() {
    // `cargo bench` says so; anything else that starts this program only wants to know that it is there.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let sizes = Sizes::from_arguments();
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("bench.db");
    let seeded = seed(&database, &sizes);
    let server = Server::start(&database, sizes.sockets);
    let alone_kib = server.rss_kib();
    let open =
        |user| Opening { path: "/ws/alarms/?since=0".to_owned(), token: Some(token(user)), greeting: Some("hello") };
    let openings = sizes.connected().into_iter().map(open).collect();
    let listeners = Listeners::connect(server.address, openings, "auction_started");
    let connected_kib = server.rss_kib();
    let tokens = (FIRST_BIDDER..FIRST_BIDDER + sizes.bidders).map(token).collect();
    let bidders = Bidders::start(server.address, tokens, seeded.others, sizes.pause);
    let start = instant(seeded.starts_at);
    assert!(Instant::now() + BEFORE < start, "this machine is too slow for these sizes");

    // The first second is not looked at: connections are made, pages are read for the first time.
    sleep_until(Instant::now() + Duration::from_secs(1));
    let without = Stretch::begin(&server);
    sleep_until(start - Duration::from_millis(20));
    let without = without(&server);
    sleep_until(start);
    let during = Stretch::begin(&server);
    let frames = listeners.wait_for_all(Duration::from_secs(60));
    let during = during(&server);
    let after_kib = server.rss_kib();
    let after = Stretch::begin(&server);
    sleep_until(Instant::now() + BEFORE / 2);
    let after = after(&server);
    let bids = bidders.stop();
    listeners.stop();

    println!(
        "\n{} likers, {} connected; {} bidders on {} other goods\n",
        sizes.likers, sizes.sockets, sizes.bidders, sizes.goods
    );
    println!("                 lasts   bids/s   p50 ms   p99 ms   max ms     server    clients   (CPU of one core)");
    let reference = without.report("without", &bids);
    let p99 = during.report("during", &bids);
    after.report("after", &bids);
    let after_start = |at: Option<&Instant>| at.map_or(f64::NAN, |at| (*at - start).as_secs_f64() * 1e3);
    let last = after_start(frames.last());
    println!("\nfirst frame after the start {:>8.1} ms", after_start(frames.first()));
    println!("last frame after the start  {last:>8.1} ms   (to reach: {} ms)", LAST_FRAME.as_millis());
    println!("p99 during / without        {:>8.2}      (to reach: {P99_RATIO})", p99 / reference);
    println!("server's RSS in KiB: {alone_kib} alone, {connected_kib} connected, {after_kib} after the start");
    println!(
        "a connected socket: {:.1} KiB",
        connected_kib.saturating_sub(alone_kib) as f64 / sizes.sockets.max(1) as f64
    );
}
