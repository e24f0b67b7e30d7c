//! A big start: goods that a hundred thousand users like become live while ten thousand of them are connected and
//! others bid on other goods. How soon is the last one alarmed, and what do the bidders notice? The reference for the
//! bids during the start are the bids before it.

use std::time::{Duration, Instant};

use handsup::test_support::time_source::{SystemTime, TimeSource};

use crate::{
    row::{Reach, Report, Row, ratio, value},
    support::{
        bench_database::{BenchDatabase, FIRST_LISTENER, SELLER, bidders_of},
        bidders::{Bidders, FIRST_PRICE},
        bulk,
        callers::{Callers, Pace},
        listeners::{Listeners, Opening},
        server::ServerOptions,
        sizes::Sizes,
        window::Window,
    },
};

/// How long bids are measured before the start.
const BEFORE: Duration = Duration::from_secs(5);

struct BigStart {
    first_ms: f64,
    last_ms: f64,
    p99_without: f64,
    p99_during: f64,
    rate_without: f64,
    rate_during: f64,
    cpu_percent: f64,
    rss_mib: f64,
    threads: String,
}

fn big_start(sizes: &Sizes) -> BigStart {
    let (likers, sockets) = (sizes.of("LIKERS", 100_000), sizes.of("SOCKETS", 10_000));
    let (connections, others) = (sizes.of("CONNECTIONS", 64), sizes.of("GOODS", 10));
    assert!(sockets <= likers, "every socket is a liker's");
    let database = BenchDatabase::new();
    let others = database.with_auctions(connections, others);
    bulk::users(&database, FIRST_LISTENER, likers);
    let seed = database.seed();
    let big = seed.goods(SELLER, "big", [SystemTime.now().plus_ms(3_600_000)]);
    seed.finish();
    bulk::likes(&database, &big, likers);
    let connecting = Duration::from_secs(4) + Duration::from_micros(800) * sockets as u32;
    let starts_at = bulk::from_now(connecting + BEFORE);
    bulk::start_at(&database, &big, starts_at);

    let server = database.serve(&ServerOptions { workers: sizes.workers(), ..ServerOptions::default() });
    // Evenly from the first to the last liker.
    let connected = (0..sockets).map(|nth| FIRST_LISTENER + (nth * likers / sockets) as i64);
    let listeners =
        Listeners::connect(server.address, connected.map(Opening::of_alarms).collect(), "\"auction_started\"");
    let bidders = Bidders::raising_from(bidders_of(connections), &others, FIRST_PRICE);
    let callers = Callers::start(server.address, connections, Pace::Answered, bidders);
    let start = Instant::now() + Duration::from_millis(starts_at.ms_since(SystemTime.now()).max(0).unsigned_abs());
    assert!(Instant::now() + BEFORE < start, "this machine is too slow to connect {sockets} in time");
    // The first second is not measured.
    std::thread::sleep(Duration::from_secs(1));
    let without = Window::until(&server, || {
        std::thread::sleep((start - Duration::from_millis(20)).saturating_duration_since(Instant::now()));
    });
    std::thread::sleep(start.saturating_duration_since(Instant::now()));
    let mut frames = Vec::new();
    let during = Window::until(&server, || frames = listeners.wait_for(sockets, Duration::from_secs(60)));
    let rss_mib = server.rss_mib();
    let answers = callers.stop().answers;
    listeners.stop();
    let after_start = |at: Option<&Instant>| at.map_or(f64::NAN, |at| (*at - start).as_secs_f64() * 1e3);
    let (before, then) = (without.took(&answers, |s| s == 201), during.took(&answers, |s| s == 201));
    BigStart {
        first_ms: after_start(frames.first()),
        last_ms: after_start(frames.last()),
        p99_without: before.ms(0.99),
        p99_during: then.ms(0.99),
        rate_without: without.rate(before.len()),
        rate_during: during.rate(then.len()),
        cpu_percent: during.server_percent(),
        rss_mib,
        threads: format!(
            "before {}; during {}; clients {:.0} %",
            without.server.by_thread(without.lasted),
            during.server.by_thread(during.lasted),
            during.clients.percent(during.lasted)
        ),
    }
}

pub fn run(sizes: &Sizes) -> Report {
    let runs: Vec<BigStart> = (0..sizes.runs(3)).map(|_| big_start(sizes)).collect();
    let of = |take: fn(&BigStart) -> f64| runs.iter().map(take).collect::<Vec<f64>>();
    let (during, without) = (of(|run| run.p99_during), of(|run| run.p99_without));
    Report::of_rows([Row {
        name: "big start",
        figure: value("p99 of other bids", " ms", during.clone()),
        reference: value("p99 without the start", " ms", without.clone()),
        judged: vec![
            value("last frame after", " ms", of(|run| run.last_ms)).reaching(Reach::AtMost(1500.0)),
            ratio("ratio", &during, &without).reaching(Reach::AtMost(2.0)),
        ],
        also: vec![
            value("first frame after", " ms", of(|run| run.first_ms)),
            value("accepted", "/s", of(|run| run.rate_during)),
            value("without", "/s", of(|run| run.rate_without)),
            value("server's CPU", " %", of(|run| run.cpu_percent)),
            value("RSS", " MiB", of(|run| run.rss_mib)),
        ],
        note: runs.last().map_or_else(String::new, |run| run.threads.clone()),
    }])
}
