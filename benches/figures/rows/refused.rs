//! Bids that are refused from memory: 64 connections bid too low and are refused without a read of the disk. The
//! reference is `GET /health/live` on the same server, by the same callers.

use std::time::Duration;

use super::bid::{self, BidLoad};
use crate::{
    row::{Reach, Report, Row, ratio, value},
    support::{
        bench_database::{BenchDatabase, bidders_of},
        bidders::{Bidders, Same},
        callers::{Callers, Calls, Pace},
        server::{Server, ServerOptions},
        sizes::Sizes,
        window::Window,
    },
};

/// The result of one run.
pub struct Answers {
    pub a_second: f64,
    pub p99_ms: f64,
    pub cpu_us: f64,
    pub cpu_percent: f64,
    pub rss_mib: f64,
}

fn answers(server: &Server, connections: usize, calls: impl Calls, status: u16, lasts: Duration) -> Answers {
    let callers = Callers::start(server.address, connections, Pace::Answered, calls);
    std::thread::sleep(Duration::from_millis(500));
    let window = Window::measure(server, lasts);
    let answers = callers.stop().answers;
    assert!(answers.iter().all(|answer| answer.status == status), "all are answered {status}");
    let took = window.took(&answers, |_| true);
    Answers {
        a_second: window.rate(took.len()),
        p99_ms: took.ms(0.99),
        cpu_us: window.micros_each(took.len()),
        cpu_percent: window.server_percent(),
        rss_mib: server.rss_mib(),
    }
}

/// First health requests, then refusals, on the same server, for so long each.
pub fn health_and_refused(server: &Server, connections: usize, goods: &[i64], lasts: Duration) -> (Answers, Answers) {
    let health = answers(server, connections, Same::get("/health/live"), 200, lasts);
    let refused = answers(server, connections, Bidders::too_low(bidders_of(connections), goods), 409, lasts);
    (health, refused)
}

pub fn run(sizes: &Sizes) -> Report {
    let (connections, goods) = (sizes.of("CONNECTIONS", 64), sizes.of("GOODS", 10));
    let database = BenchDatabase::new();
    let on = database.with_auctions(connections, goods);
    let server = database.serve(&ServerOptions { workers: sizes.workers(), ..ServerOptions::default() });
    // All goods have a leader.
    bid::bids(&server, &BidLoad::on(&on, connections, Duration::from_secs(1)));
    let runs: Vec<(Answers, Answers)> =
        (0..sizes.runs(5)).map(|_| health_and_refused(&server, connections, &on, sizes.lasts())).collect();
    let of = |take: fn(&(Answers, Answers)) -> f64| runs.iter().map(take).collect::<Vec<f64>>();
    let (health, refused) = (of(|(health, _)| health.a_second), of(|(_, refused)| refused.a_second));
    Report::of_rows([Row {
        name: "bid refused",
        figure: value("refused", "/s", refused.clone()),
        reference: value("`/health/live`", "/s", health.clone()),
        judged: vec![ratio("ratio", &refused, &health).reaching(Reach::AtLeast(0.6))],
        also: vec![
            value("p99", " ms", of(|(_, refused)| refused.p99_ms)),
            value("server's CPU an answer", " µs", of(|(_, refused)| refused.cpu_us)),
            value("of `/health/live`", " µs", of(|(health, _)| health.cpu_us)),
            value("server's CPU", " %", of(|(_, refused)| refused.cpu_percent)),
            value("RSS", " MiB", of(|(_, refused)| refused.rss_mib)),
        ],
        note: String::new(),
    }])
}
