//! One event to 5,000 alarm sockets, and four events at once: all of the server's CPU for each frame (the inbox row,
//! the frame, the ping behind it, the pong that confirms receipt, the write of the receipt). The reference is a bare
//! loop that writes the same frame to as many sockets.
//! ¶ Two kinds of events have large audiences: a start (everybody who likes the goods) and an end (everybody who has
//! bid).

use std::time::{Duration, Instant};

use handsup::test_support::time_source::{SystemTime, TimeSource};

use crate::{
    row::{Reach, Report, Row, ratio, value},
    support::{
        bare_loop,
        bench_database::{BenchDatabase, FIRST_BIDDER, FIRST_LISTENER, listeners_of},
        bulk,
        listeners::{Listeners, Opening},
        nchan,
        server::ServerOptions,
        sizes::Sizes,
        window::Window,
    },
};

/// The kind of event.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Start,
    End,
}

/// Events at once in the second kind of run.
const AT_ONCE: usize = 4;
/// The measurement begins so long before the event.
const BEFORE: Duration = Duration::from_millis(50);

/// The result of one run.
pub struct FanOut {
    /// The server's CPU for each frame, in µs.
    pub cpu_us: f64,
    /// The ledger's part: rows and receipts.
    pub ledger_us: f64,
    /// The workers' part: frames and pongs.
    pub workers_us: f64,
    /// The part of the thread that hub and clock share, which also works now and then without events.
    pub hub_us: f64,
    pub last_ms: f64,
    pub threads: String,
}

/// The results of several runs on one server: one event and four at once in turn.
pub struct FanOuts {
    pub one: Vec<FanOut>,
    pub four: Vec<FanOut>,
    /// The bare loop's CPU for each frame, in µs, for each run.
    pub bare_us: Vec<f64>,
    /// The same with receipts: one frame in each write, and four.
    pub proved_us: [Vec<f64>; 2],
    /// The same with a task for each socket.
    pub tasks_us: [Vec<f64>; 2],
    /// The CPU for each frame of a service that only passes it on.
    pub nchan_us: Vec<f64>,
    pub rss_mib: f64,
}

pub fn fan_outs(event: Event, sockets: usize, runs: usize, options: &ServerOptions) -> FanOuts {
    let database = BenchDatabase::new();
    let goods = database.with_auctions(0, runs * (1 + AT_ONCE));
    bulk::users(&database, FIRST_BIDDER, 1);
    bulk::users(&database, FIRST_LISTENER, sockets);
    match event {
        Event::Start => bulk::likes(&database, &goods, sockets),
        Event::End => bulk::bids(&database, &goods, sockets),
    }
    // Time for the frames, the pongs and the receipts, of which some thousands a second are written.
    let gap = Duration::from_millis(1500) + Duration::from_micros(600) * sockets as u32;
    let connecting = Duration::from_secs(3) + Duration::from_micros(600) * sockets as u32;
    let first = bulk::from_now(connecting);
    let mut moments = Vec::new();
    let mut left = goods.as_slice();
    while !left.is_empty() {
        for many in [1, AT_ONCE] {
            let (these, rest) = left.split_at(many);
            left = rest;
            let at = first.plus_ms((gap.as_millis() * moments.len() as u128) as i64);
            match event {
                Event::Start => bulk::start_at(&database, these, at),
                Event::End => bulk::end_at(&database, these, at),
            }
            moments.push((at, many));
        }
    }
    if event == Event::Start {
        database.sql("UPDATE goods SET phase = 0");
    }

    let server = database.serve(&ServerOptions { no_heartbeat: true, ..options.clone() });
    let needle = if event == Event::Start { "\"auction_started\"" } else { "\"auction_lost\"" };
    let openings = listeners_of(sockets).map(Opening::of_alarms).collect();
    let listeners = Listeners::connect(server.address, openings, needle);
    let (mut one, mut four, mut bare_us) = (Vec::new(), Vec::new(), Vec::new());
    for (at, many) in moments {
        let at = Instant::now() + Duration::from_millis(at.ms_since(SystemTime.now()).max(0).unsigned_abs());
        assert!(at > Instant::now() + BEFORE, "this machine is too slow to connect {sockets} in time");
        std::thread::sleep((at - BEFORE).saturating_duration_since(Instant::now()));
        let mut frames = Vec::new();
        let window = Window::until(&server, || {
            frames = listeners.wait_for(many * sockets, gap * 10);
            std::thread::sleep((at + gap - BEFORE * 6).saturating_duration_since(Instant::now()));
        });
        let of_thread = |name| window.server.of(name).as_secs_f64() * 1e6 / frames.len().max(1) as f64;
        let found = FanOut {
            cpu_us: window.micros_each(frames.len()),
            ledger_us: of_thread("ledger"),
            workers_us: of_thread("actix-rt|system"),
            hub_us: of_thread("handsup"),
            last_ms: frames.last().map_or(f64::NAN, |last| (*last - at).as_secs_f64() * 1e3),
            threads: window.server.by_thread(window.lasted),
        };
        if many == 1 { one.push(found) } else { four.push(found) }
    }
    let (frame, rss_mib) = (listeners.frame(), server.rss_mib());
    assert!(listeners.closed().is_empty(), "no socket was closed");
    listeners.stop();
    drop(server);
    let (mut proved_us, mut tasks_us) = ([const { Vec::new() }; 2], [const { Vec::new() }; 2]);
    for _ in 0..runs {
        bare_us.push(bare_loop::cpu_a_frame(sockets, &frame, 4).as_secs_f64() * 1e6);
        for (nth, at_once) in [1, AT_ONCE].into_iter().enumerate() {
            let proved = bare_loop::cpu_a_proved_frame(sockets, &frame, at_once, 4);
            let of_tasks = bare_loop::cpu_a_proved_frame_of_tasks(sockets, &frame, at_once, 4);
            proved_us[nth].push(proved.as_secs_f64() * 1e6);
            tasks_us[nth].push(of_tasks.as_secs_f64() * 1e6);
        }
    }
    let nchan_us = nchan::cpu_a_frame_us(sockets, &frame, runs);
    FanOuts { one, four, bare_us, proved_us, tasks_us, nchan_us, rss_mib }
}

pub fn run(sizes: &Sizes) -> Report {
    let (sockets, runs) = (sizes.of("SOCKETS", 5000), sizes.runs(4));
    let options = ServerOptions { workers: sizes.workers(), ..ServerOptions::default() };
    let mut rows = Vec::new();
    for (event, names) in [
        (Event::Start, ["fan-out, a start", "fan-out, 4 starts at once"]),
        (Event::End, ["fan-out, an end", "fan-out, 4 ends at once"]),
    ] {
        let found = fan_outs(event, sockets, runs, &options);
        rows.push(row(names[0], &found.one, &found, 0, 1.25));
        rows.push(row(names[1], &found.four, &found, 1, 0.5));
    }
    Report::of_rows(rows)
}

fn row(name: &'static str, these: &[FanOut], found: &FanOuts, nth: usize, reach: f64) -> Row {
    let cpu: Vec<f64> = these.iter().map(|one| one.cpu_us).collect();
    let mut also = vec![
        value("bare loop with a ping, that reads the pong", " µs", found.proved_us[nth].clone()),
        value("the same with a task a socket", " µs", found.tasks_us[nth].clone()),
        value("of ours the ledger's, to store rows and receipts", " µs", these.iter().map(|one| one.ledger_us)),
        value("the workers', to write frames and read pongs", " µs", these.iter().map(|one| one.workers_us)),
        value("the hub's and the clock's", " µs", these.iter().map(|one| one.hub_us)),
        value("last frame after", " ms", these.iter().map(|one| one.last_ms)),
        value("RSS", " MiB", [found.rss_mib]),
    ];
    if nth == 0 && !found.nchan_us.is_empty() {
        also.push(value("Nchan, which stores and proves nothing", " µs", found.nchan_us.clone()));
    }
    Row {
        name,
        figure: value("server's CPU a frame", " µs", cpu.clone()),
        reference: value("bare loop", " µs", found.bare_us.clone()),
        judged: vec![ratio("ratio", &cpu, &found.bare_us).reaching(Reach::AtMost(reach))],
        also,
        note: these.last().map_or_else(String::new, |one| one.threads.clone()),
    }
}
