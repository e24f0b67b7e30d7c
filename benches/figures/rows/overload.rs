//! Overload: the rate that the server can take is measured first, then bids come at twice that rate whatever is
//! answered, over as many connections as that needs, then again as at first. Does it refuse the excess early, and does
//! it recover at once?

use std::{collections::BTreeMap, time::Duration};

use super::bid::{self, BidLoad, Bids};
use crate::{
    row::{Reach, Report, Row, Table, count, number, ratio, value},
    support::{
        bench_database::{BenchDatabase, bidders_of},
        bidders::{Bidders, FIRST_PRICE},
        callers::{Callers, Pace},
        server::ServerOptions,
        sizes::Sizes,
        window::{Times, Window},
    },
};

/// Open connections. The larger number stays well below the limit of files. A bid waits until the server has gone round
/// all connections that have sent something, so more of them cost more under overload.
const CONNECTIONS: [usize; 2] = [1000, 4000];
const ENOUGH: usize = 1000;
/// The server knows all of them from the bids before.
const BIDDERS: usize = 64;

/// The result of one run.
struct Found {
    /// Each bid when the last is answered, before the overload.
    before: Bids,
    many: Bids,
    rate: f64,
    /// By the number of connections over which twice as many bids came.
    over: Vec<Over>,
}

struct Over {
    connections: usize,
    accepted: f64,
    p50_ms: f64,
    p99_ms: f64,
    shed: f64,
    shed_p99_ms: f64,
    low: f64,
    cpu_percent: f64,
    rss_mib: f64,
    /// The second after the overload.
    after: Bids,
}

pub fn run(sizes: &Sizes) -> Report {
    let runs: Vec<Found> = (0..sizes.runs(2)).map(|_| once(sizes)).collect();
    let of = |take: fn(&Found) -> f64| runs.iter().map(take).collect::<Vec<f64>>();
    let row = Row {
        name: "overload",
        figure: value("accepted of twice as many", "/s", of(|found| found.over[0].accepted)),
        reference: value("it can take", "/s", of(|found| found.rate / 2.0)),
        judged: vec![
            value("p99 of the accepted", " ms", of(|found| found.over[0].p99_ms)).reaching(Reach::AtMost(50.0)),
            ratio(
                "accepted in the second after it, by before",
                &of(|found| found.over[0].after.accepted_a_second),
                &of(|found| found.before.accepted_a_second),
            )
            .reaching(Reach::AtLeast(0.8)),
        ],
        also: vec![
            value("503", "/s", of(|found| found.over[0].shed)),
            value("p99 of a 503", " ms", of(|found| found.over[0].shed_p99_ms)),
            value("p99 of the accepted over 4,000 connections", " ms", of(|found| found.over[1].p99_ms)),
            value("accepted of 1,000 who come back at once", "/s", of(|found| found.many.accepted_a_second)),
            value("p99 of those", " ms", of(|found| found.many.p99_ms)),
        ],
        note: String::new(),
    };
    let mut table = Table::new(
        "Overload: bids at twice the rate that it can take",
        &[
            "",
            "asked /s",
            "accepted /s",
            "p50 ms",
            "p99 ms",
            "503 /s",
            "p99 ms of 503",
            "409 /s",
            "server's CPU %",
            "RSS MiB",
        ],
    );
    // The run with the median result.
    let mut sorted: Vec<&Found> = runs.iter().collect();
    sorted.sort_by(|a, b| a.over[0].p99_ms.total_cmp(&b.over[0].p99_ms));
    if let Some(Found { before, many, rate, over }) = sorted.get(runs.len() / 2) {
        table.line(closed("64 connections, each when the last is answered", before));
        table.line(closed("1,000 connections, each when the last is answered", many));
        for over in over {
            table.line([
                format!("twice as many, over {} connections", count(over.connections)),
                number(*rate),
                number(over.accepted),
                number(over.p50_ms),
                number(over.p99_ms),
                number(over.shed),
                number(over.shed_p99_ms),
                number(over.low),
                number(over.cpu_percent),
                number(over.rss_mib),
            ]);
            table.line(closed("the second after it, 64 connections", &over.after));
        }
    }
    Report { rows: vec![row], tables: vec![table] }
}

fn once(sizes: &Sizes) -> Found {
    let goods = sizes.of("GOODS", 10);
    let lasts = sizes.lasts() * 2;
    let database = BenchDatabase::new();
    let on = database.with_auctions(BIDDERS, goods);
    let server = database.serve(&ServerOptions { workers: sizes.workers(), ..ServerOptions::default() });
    let before = bid::bids(&server, &BidLoad::on(&on, BIDDERS, sizes.lasts()));
    // So many that the server never waits for one, and clients that come back at once after a refusal.
    let many = BidLoad { price: FIRST_PRICE * 2, ..BidLoad::on(&on, ENOUGH, sizes.lasts()) };
    let many = bid::bids(&server, &many);
    let rate = 2.0 * taken(&before).max(taken(&many));
    let mut price = FIRST_PRICE * 2;
    let over = CONNECTIONS.map(|connections| {
        price += FIRST_PRICE;
        let bidders = Bidders::raising_from(bidders_of(BIDDERS), &on, price);
        let callers = Callers::start(server.address, connections, Pace::PerSecond(rate), bidders);
        std::thread::sleep(Duration::from_secs(1));
        let window = Window::measure(&server, lasts);
        let rss_mib = server.rss_mib();
        let called = callers.stop();
        // Starts the moment that the last bid is answered.
        price += FIRST_PRICE;
        let at_once = BidLoad { price, warm_up: Duration::ZERO, ..BidLoad::on(&on, BIDDERS, Duration::from_secs(1)) };
        let after = bid::bids(&server, &at_once);
        let mut by_status = BTreeMap::<u16, usize>::new();
        called.answers.iter().for_each(|answer| *by_status.entry(answer.status).or_default() += 1);
        println!(
            "overload: answers by status {by_status:?}, connections that ended instead {}; of {} bids that were due {} \
             were left out, because all {connections} connections waited for an answer",
            called.unanswered,
            called.answers.len() + called.left_out,
            called.left_out
        );
        let took = |status| -> Times { window.took(&called.answers, |s| s == status) };
        let (accepted, shed) = (took(201), took(503));
        Over {
            connections,
            accepted: window.rate(accepted.len()),
            p50_ms: accepted.ms(0.5),
            p99_ms: accepted.ms(0.99),
            shed: window.rate(shed.len()),
            shed_p99_ms: shed.ms(0.99),
            low: window.rate(took(409).len()),
            cpu_percent: window.server_percent(),
            rss_mib,
            after,
        }
    });
    Found { before, many, rate, over: over.into() }
}

/// Judged bids a second.
fn taken(bids: &Bids) -> f64 {
    bids.accepted_a_second + bids.refused_a_second
}

/// The table's line for bids each of which waited for the answer to the one before.
fn closed(name: &str, bids: &Bids) -> [String; 10] {
    [
        name.to_owned(),
        number(taken(bids) + bids.shed_a_second),
        number(bids.accepted_a_second),
        number(bids.p50_ms),
        number(bids.p99_ms),
        number(bids.shed_a_second),
        if bids.shed_a_second > 0.0 { number(bids.shed_p99_ms) } else { String::new() },
        number(bids.refused_a_second),
        number(bids.cpu_percent),
        number(bids.rss_mib),
    ]
}
