//! One, two and three nodes over one PostgreSQL and one Redis: what an accepted bid and a frame to a watcher cost all
//! nodes together at the same, evenly shared load, and the most that they can take. A bid costs less the busier a node
//! is, because more bids share a commit and a thread's wake. So two nodes are compared both with one node that is as
//! busy as each of them, which shows the cost of being two, and with one that has the whole load.

use std::time::{Duration, Instant};

use crate::{
    redis::{RedisServer, redis_is_here},
    row::{Reach, Report, Row, Table, number, ratio, value},
    support::{
        bench_database::{BenchDatabase, FIRST_BIDDER, bidders_of},
        bidders::{Bidders, FIRST_PRICE},
        callers::{Callers, Pace},
        cpu::Cpu,
        listeners::{Listeners, Opening},
        postgres,
        server::{Server, ServerOptions},
        sizes::Sizes,
        window::Times,
    },
};

/// Bids a second for all nodes together, well below what they can take.
const OFFERED: usize = 1000;
/// The number of callers. Each node has as many of them, also at half the load.
const CALLERS: usize = 12;
/// Bids that all watchers get, and their rate.
const WATCHED_BIDS: usize = 40;
const WATCHED_BIDS_PER_SECOND: f64 = 10.0;
const FRAMES_TIMEOUT: Duration = Duration::from_secs(20);

/// The cost of a bid at one load.
struct Bids {
    us: f64,
    postgres_us: f64,
    redis_us: f64,
    p99_ms: f64,
    a_commit: f64,
}

/// The result of one run with so many nodes.
struct Found {
    bid: Bids,
    /// The same at half the load.
    half: Bids,
    most: f64,
    busy_at_most: String,
    frame_us: f64,
}

pub fn run(sizes: &Sizes) -> Report {
    if !redis_is_here() {
        println!("no Redis here (Debian: apt-get install redis-server): the rows of several nodes are left out");
        return Report::default();
    }
    let Some(postgres) = postgres::Server::start() else { return Report::default() };
    let redis = RedisServer::start();
    let watchers = sizes.of("SOCKETS", 1800);
    // The last one has no bus: what the bus costs a single node.
    let kinds = [(1, true), (2, true), (3, true), (1, false)];
    let mut found = [const { Vec::new() }; 4];
    for _ in 0..sizes.runs(3) {
        for (kind, found) in kinds.into_iter().zip(&mut found) {
            found.push(on(&postgres, &redis, kind, watchers, sizes));
        }
    }
    let of = |kind: usize, take: fn(&Found) -> f64| found[kind].iter().map(take).collect::<Vec<f64>>();
    let (bid, bid_of_one) = (of(1, |found| found.bid.us), of(0, |found| found.bid.us));
    let as_busy = of(0, |found| found.half.us);
    let (frame, frame_of_one) = (of(1, |found| found.frame_us), of(0, |found| found.frame_us));
    let at_most = Reach::AtMost(1.2);
    let rows = vec![
        Row {
            name: "two nodes, a bid",
            figure: value("CPU of all nodes a bid", " µs", bid.clone()),
            reference: value("one node as busy as each of them", " µs", as_busy.clone()),
            judged: vec![
                ratio("ratio", &bid, &as_busy).reaching(at_most),
                ratio("to one node with the whole load", &bid, &bid_of_one).reaching(at_most),
            ],
            also: vec![value("one node with the whole load", " µs", bid_of_one)],
            note: String::new(),
        },
        Row {
            name: "two nodes, a frame",
            figure: value("CPU of all nodes a frame", " µs", frame.clone()),
            reference: value("one node", " µs", frame_of_one.clone()),
            judged: vec![ratio("ratio", &frame, &frame_of_one).reaching(at_most)],
            also: Vec::new(),
            note: String::new(),
        },
    ];
    let mut table = Table::new(
        "Several nodes over one PostgreSQL, 1,000 bids a second (or `RATE`)",
        &[
            "nodes",
            "µs a bid",
            "PostgreSQL, µs a bid",
            "Redis, µs a bid",
            "p99 ms",
            "bids a commit",
            "µs a bid, at half the rate",
            "bids a commit",
            "µs a frame to a watcher",
            "bids/s at most",
            "then busy",
        ],
    );
    for (at, (nodes, bus)) in kinds.into_iter().enumerate() {
        let median = |take: fn(&Found) -> f64| number(value("", "", of(at, take)).median());
        table.line([
            format!("{nodes}{}", if bus { "" } else { ", no bus" }),
            median(|found| found.bid.us),
            median(|found| found.bid.postgres_us),
            median(|found| found.bid.redis_us),
            median(|found| found.bid.p99_ms),
            median(|found| found.bid.a_commit),
            median(|found| found.half.us),
            median(|found| found.half.a_commit),
            median(|found| found.frame_us),
            median(|found| found.most),
            found[at].last().map_or_else(String::new, |found| found.busy_at_most.clone()),
        ]);
    }
    Report { rows, tables: vec![table] }
}

fn on(
    postgres: &postgres::Server,
    redis: &RedisServer,
    (nodes, bus): (usize, bool),
    watchers: usize,
    sizes: &Sizes,
) -> Found {
    let connections = sizes.of("CONNECTIONS", 60);
    let database = BenchDatabase::on(postgres);
    let goods = database.with_auctions(connections, 12 + 1);
    let (last, goods) = goods.split_last().expect("some");
    let bus = bus.then(|| redis.url());
    let options = ServerOptions { workers: Some(sizes.workers().unwrap_or(1)), no_heartbeat: true, bus };
    let servers: Vec<Server> = (0..nodes).map(|_| database.serve(&options)).collect();
    std::thread::sleep(Duration::from_millis(1500));
    // The number of callers is the same for any number of nodes, since each sends together what has become due while it
    // slept. Each has its own bidders and goods: prices that cross each other would be refused, and refused bids are
    // not counted.
    let callers = |many: usize, pace: Pace, price: i64| {
        let (connections, share) = (connections / CALLERS, goods.len() / CALLERS);
        let call = |nth: usize| {
            let own = &goods[nth * share..(nth + 1) * share];
            let bidders = bidders_of((nth + 1) * connections).skip(nth * connections);
            let bidders = Bidders::raising_from(bidders, own, price);
            Callers::start(servers[nth % nodes].address, connections, pace, bidders)
        };
        (0..many).map(call).collect::<Vec<Callers>>()
    };
    let cpu = || (of_all(&servers), postgres.cpu(), Cpu::of(&format!("/proc/{}", redis.process())));

    let each = Pace::AtRandom(sizes.of("RATE", OFFERED) as f64 / CALLERS as f64);
    let at_rate = |many: usize, price: i64| {
        let at_rate = callers(many, each, price);
        std::thread::sleep(Duration::from_secs(1));
        let commits = || servers.iter().map(Server::commits).sum::<u64>();
        let (committed, before, from) = (commits(), cpu(), Instant::now());
        std::thread::sleep(sizes.lasts());
        let (after, lasted) = (cpu(), from.elapsed());
        let committed = commits() - committed;
        let times = accepted(at_rate, from, lasted);
        let each = |spent: Duration| spent.as_secs_f64() * 1e6 / times.len().max(1) as f64;
        Bids {
            us: each(after.0.saturating_sub(before.0)),
            postgres_us: each(after.1.since(&before.1).all),
            redis_us: each(after.2.since(&before.2).all),
            p99_ms: times.ms(0.99),
            a_commit: times.len() as f64 / committed.max(1) as f64,
        }
    };
    let (bid, half) = (at_rate(CALLERS, FIRST_PRICE), at_rate(CALLERS / 2, FIRST_PRICE * 2));

    let fast = callers(CALLERS, Pace::Answered, FIRST_PRICE * 4);
    std::thread::sleep(Duration::from_secs(1));
    let (before, own, from) = (cpu(), Cpu::own(), Instant::now());
    std::thread::sleep(sizes.lasts());
    let (after, callers_own, lasted) = (cpu(), Cpu::own().since(&own), from.elapsed());
    let most = accepted(fast, from, lasted).len() as f64 / lasted.as_secs_f64();
    let percent = |spent: Duration| 100.0 * spent.as_secs_f64() / lasted.as_secs_f64();
    let busy_at_most = format!(
        "nodes {:.0} %, PostgreSQL {:.0} %, Redis {:.0} %, callers {:.0} %",
        percent(after.0.saturating_sub(before.0)),
        after.1.since(&before.1).percent(lasted),
        after.2.since(&before.2).percent(lasted),
        callers_own.percent(lasted)
    );

    let frame_us = frames(&servers, *last, watchers);
    Found { bid, half, most, busy_at_most, frame_us }
}

/// How long the bids took that were accepted in this time.
fn accepted(callers: Vec<Callers>, from: Instant, lasted: Duration) -> Times {
    let answers: Vec<_> = callers.into_iter().flat_map(|callers| callers.stop().answers).collect();
    Times::of(
        answers
            .iter()
            .filter(|answer| answer.status == 201 && answer.asked_at >= from && answer.asked_at < from + lasted)
            .map(|answer| answer.took),
    )
}

/// The CPU of all nodes for each frame to a watcher of a room, in µs. The bids arrive at the first node.
fn frames(servers: &[Server], goods: i64, watchers: usize) -> f64 {
    let opening = Opening { path: format!("/ws/auction/{goods}/"), token: None, greeting: None };
    let share = watchers / servers.len();
    let groups: Vec<Listeners> = servers
        .iter()
        .map(|server| Listeners::connect(server.address, vec![opening.clone(); share], "\"bid\""))
        .collect();
    groups.iter().for_each(|group| group.wait_for_quiet(Duration::from_millis(500)));
    let before = of_all(servers);
    let bidder = Bidders::raising_from([FIRST_BIDDER].into_iter(), &[goods], FIRST_PRICE);
    let callers = Callers::start(servers[0].address, 1, Pace::PerSecond(WATCHED_BIDS_PER_SECOND), bidder);
    std::thread::sleep(Duration::from_secs_f64((WATCHED_BIDS as f64 - 0.5) / WATCHED_BIDS_PER_SECOND));
    let accepted = callers.stop().answers.iter().filter(|answer| answer.status == 201).count();
    groups.iter().for_each(|group| drop(group.wait_for(accepted * share, FRAMES_TIMEOUT)));
    let spent = of_all(servers).saturating_sub(before);
    assert!(groups.iter().all(|group| group.closed().is_empty()), "no socket was closed");
    groups.into_iter().for_each(Listeners::stop);
    spent.as_secs_f64() * 1e6 / (accepted * share * servers.len()) as f64
}

fn of_all(servers: &[Server]) -> Duration {
    servers.iter().map(|server| server.cpu().all()).sum()
}
