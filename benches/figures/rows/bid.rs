//! Accepted bids: 64 connections bid on 10 goods, each again as soon as it is answered. The reference is the same store
//! with one bid a transaction.

use std::time::Duration;

use crate::{
    row::{Reach, Report, Row, number, ratio, value},
    support::{
        bench_database::{BenchDatabase, bidders_of},
        bidders::{Bidders, FIRST_PRICE},
        callers::{Callers, Pace},
        one_by_one,
        server::{Server, ServerOptions},
        sizes::Sizes,
        window::Window,
    },
};

/// How bids are sent.
pub struct BidLoad<'a> {
    pub connections: usize,
    pub goods: &'a [i64],
    /// All prices are above this.
    pub price: i64,
    /// Not measured: connections are made and pages are read for the first time.
    pub warm_up: Duration,
    pub lasts: Duration,
}

impl<'a> BidLoad<'a> {
    pub fn on(goods: &'a [i64], connections: usize, lasts: Duration) -> Self {
        Self { connections, goods, price: FIRST_PRICE, warm_up: Duration::from_secs(1), lasts }
    }
}

/// The result of one run of bids.
pub struct Bids {
    pub accepted_a_second: f64,
    pub refused_a_second: f64,
    /// Bids answered with 503, and how long that took.
    pub shed_a_second: f64,
    pub shed_p99_ms: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// The server's CPU for each accepted bid, in µs.
    pub cpu_us: f64,
    /// The server's CPU, in % of one core.
    pub cpu_percent: f64,
    pub rss_mib: f64,
    pub threads: String,
}

/// Bids on each connection as soon as the last bid is answered.
pub fn bids(server: &Server, load: &BidLoad<'_>) -> Bids {
    let bidders = Bidders::raising_from(bidders_of(load.connections), load.goods, load.price);
    let callers = Callers::start(server.address, load.connections, Pace::Answered, bidders);
    std::thread::sleep(load.warm_up);
    let window = Window::measure(server, load.lasts);
    let rss_mib = server.rss_mib();
    let answers = callers.stop().answers;
    let stray = answers.iter().find(|answer| !matches!(answer.status, 201 | 409 | 503));
    assert!(stray.is_none(), "a bid was answered {}", stray.map_or(0, |answer| answer.status));
    let took = |status| window.took(&answers, |s| s == status);
    let (accepted, refused, shed) = (took(201), took(409), took(503));
    Bids {
        accepted_a_second: window.rate(accepted.len()),
        refused_a_second: window.rate(refused.len()),
        shed_a_second: window.rate(shed.len()),
        shed_p99_ms: shed.ms(0.99),
        p50_ms: accepted.ms(0.5),
        p99_ms: accepted.ms(0.99),
        cpu_us: window.micros_each(accepted.len()),
        cpu_percent: window.server_percent(),
        rss_mib,
        threads: format!(
            "{}; callers {:.0} %",
            window.server.by_thread(window.lasted),
            window.clients.percent(window.lasted)
        ),
    }
}

pub fn run(sizes: &Sizes) -> Report {
    let (connections, goods) = (sizes.of("CONNECTIONS", 64), sizes.of("GOODS", 10));
    let runs: Vec<(f64, Bids)> = (0..sizes.runs(5))
        .map(|_| {
            let reference = one_by_one::bids_per_second(sizes.lasts(), goods);
            let database = BenchDatabase::new();
            let on = database.with_auctions(connections, goods);
            let server = database.serve(&ServerOptions { workers: sizes.workers(), ..ServerOptions::default() });
            (reference, bids(&server, &BidLoad::on(&on, connections, sizes.lasts())))
        })
        .collect();
    Report::of_rows([row("bid", "one bid a transaction", 5.0, &runs)])
}

/// The row of bids on either engine.
pub fn row(name: &'static str, reference: &'static str, reach: f64, runs: &[(f64, Bids)]) -> Row {
    let of = |take: fn(&Bids) -> f64| runs.iter().map(|(_, bids)| take(bids)).collect::<Vec<f64>>();
    let references: Vec<f64> = runs.iter().map(|(reference, _)| *reference).collect();
    let accepted = of(|bids| bids.accepted_a_second);
    let refused = of(|bids| 100.0 * bids.refused_a_second / (bids.refused_a_second + bids.accepted_a_second));
    Row {
        name,
        figure: value("accepted", "/s", accepted.clone()),
        reference: value(reference, "/s", references.clone()),
        judged: vec![
            ratio("ratio", &accepted, &references).reaching(Reach::AtLeast(reach)),
            value("p99", " ms", of(|bids| bids.p99_ms)).reaching(Reach::AtMost(15.0)),
        ],
        also: vec![
            value("p50", " ms", of(|bids| bids.p50_ms)),
            value("server's CPU a bid", " µs", of(|bids| bids.cpu_us)),
            value("server's CPU", " %", of(|bids| bids.cpu_percent)),
            value("RSS", " MiB", of(|bids| bids.rss_mib)),
        ],
        note: format!(
            "{}; {} % came too low because another was quicker",
            runs.last().map_or("", |(_, bids)| bids.threads.as_str()),
            number(refused.iter().sum::<f64>() / refused.len() as f64)
        ),
    }
}
