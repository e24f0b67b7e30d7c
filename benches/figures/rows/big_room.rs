//! A large room: ten thousand watch an auction in which one user bids and another one writes lines, again and again.
//! How soon does the last watcher get a frame, and what does a frame cost? At one bid or line a second, each must reach
//! everybody within a second. The reference is a bare loop that writes the same frame to as many sockets.

use std::time::{Duration, Instant};

use crate::{
    row::{Reach, Report, Row, ratio, value},
    support::{
        bare_loop,
        bench_database::{BenchDatabase, FIRST_LISTENER, SELLER, bidders_of},
        bidders::{Bidders, FIRST_PRICE},
        bulk,
        callers::{Callers, Pace},
        line_author::LineAuthor,
        listeners::{Listeners, Opening},
        server::ServerOptions,
        sizes::Sizes,
        token,
        window::{Times, Window},
    },
};

const FRAMES_TIMEOUT: Duration = Duration::from_secs(30);

pub fn run(sizes: &Sizes) -> Report {
    let (watchers, users) = (sizes.of("SOCKETS", 10_000), sizes.of("USERS", 2000));
    let bids = sizes.of("BIDS", 12);
    let database = BenchDatabase::new();
    let goods = database.with_auctions(1, 1);
    bulk::users(&database, FIRST_LISTENER, users);
    let server =
        database.serve(&ServerOptions { workers: sizes.workers(), no_heartbeat: true, ..ServerOptions::default() });
    let alone = server.rss_kib();
    let opening = |nth: usize| Opening {
        path: format!("/ws/auction/{}/", goods[0]),
        token: (nth < users).then(|| token(FIRST_LISTENER + nth as i64)),
        greeting: None,
    };
    let mut connected = None;
    let entering = Window::until(&server, || {
        connected = Some(Listeners::connect(server.address, (0..watchers).map(opening).collect(), "\"goods_id\""));
    });
    let listeners = connected.unwrap();
    // The gathered joins are sent first.
    listeners.wait_for_quiet(Duration::from_millis(1500));
    let each_kib = (server.rss_kib() - alone) / watchers as f64;
    let mut author = LineAuthor::enter(server.address, goods[0], SELLER);
    // All have got the author's join.
    listeners.wait_for_quiet(Duration::from_millis(1500));
    let (mut cpu, mut last, mut threads) = (Vec::new(), [Vec::new(), Vec::new()], String::new());
    for nth in 0..bids as i64 {
        for (is_line, last) in [false, true].into_iter().zip(&mut last) {
            let bidder = Bidders::raising_from(bidders_of(1), &goods, FIRST_PRICE + nth);
            let mut frames = Vec::new();
            let mut sent_at = Instant::now();
            let window = Window::until(&server, || {
                sent_at = Instant::now();
                if is_line {
                    author.say("a line");
                    frames = listeners.wait_for(watchers, FRAMES_TIMEOUT);
                } else {
                    // One bid: due at once, and the next one only after all have got this one.
                    let callers = Callers::start(server.address, 1, Pace::PerSecond(0.01), bidder);
                    frames = listeners.wait_for(watchers, FRAMES_TIMEOUT);
                    assert!(callers.stop().answers.iter().all(|answer| answer.status == 201));
                }
            });
            cpu.push(window.micros_each(watchers));
            last.push((*frames.last().unwrap() - sent_at).as_secs_f64() * 1e3);
            threads = window.server.by_thread(window.lasted);
            std::thread::sleep(Duration::from_millis(300));
        }
    }
    let [last_bid, last_line] = last;
    let (frame, rss) = (listeners.frame(), server.rss_mib());
    listeners.stop();
    drop(server);
    let bare: Vec<f64> = (0..3).map(|_| bare_loop::cpu_a_frame(watchers, &frame, 4).as_secs_f64() * 1e6).collect();
    let bare_median = Times::of(bare.iter().map(|micros| Duration::from_secs_f64(micros / 1e6))).ms(0.5) * 1e3;
    Report::of_rows([Row {
        name: "big room",
        figure: value("server's CPU a frame", " µs", cpu.clone()),
        reference: value("bare loop", " µs", bare),
        judged: vec![
            ratio("ratio", &cpu, &vec![bare_median; cpu.len()]),
            value("last watcher gets a bid after", " ms", last_bid).reaching(Reach::AtMost(1000.0)),
            value("a line after", " ms", last_line).reaching(Reach::AtMost(1000.0)),
        ],
        also: vec![
            value("CPU of coming in, a socket", " µs", [entering.micros_each(watchers)]),
            value("a watcher", " KiB", [each_kib]),
            value("RSS", " MiB", [rss]),
        ],
        note: threads,
    }])
}
