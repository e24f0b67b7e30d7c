//! Twice as many bids as it can take: what it can take is measured first, then bids come at twice that rate whatever is
//! answered, over as many connections as that needs, then again as before. Does it turn away what is too much, early, and
//! does it come back at once?

use std::{collections::BTreeMap, time::Duration};

use super::bid::{self, Bids, Course};
use crate::{
    row::{Report, Table, count, number},
    support::{
        bidders::{Bidders, FIRST_PRICE},
        callers::{Callers, Pace},
        house::{House, bidders_of},
        server::Wishes,
        sizes::Sizes,
        window::{Times, Window},
    },
};

/// What is open at once; the most is as many as can be without coming near the limit of files. A bid waits until the server
/// has gone round all that have sent something, so more of them cost more when there are too many bids.
const CONNECTIONS: [usize; 2] = [1000, 4000];
const ENOUGH: usize = 1000;
/// All of them known to the server from the bids before.
const BIDDERS: usize = 64;

pub fn run(sizes: &Sizes) -> Report {
    let goods = sizes.of("GOODS", 10);
    let lasts = sizes.lasts() * 2;
    let house = House::new();
    let on = house.with_auctions(BIDDERS, goods);
    let server = house.serve(&Wishes { workers: sizes.workers(), ..Wishes::default() });
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
    let few = bid::bids(&server, &Course::on(&on, BIDDERS, sizes.lasts()));
    // So many that it never waits for one, and nobody goes away when he is told to.
    let many = Course { price: FIRST_PRICE * 2, ..Course::on(&on, ENOUGH, sizes.lasts()) };
    let most = bid::bids(&server, &many);
    table.line(closed("64 connections, each when the last is answered", &few));
    table.line(closed("1,000 connections, each when the last is answered", &most));
    let rate = 2.0 * taken(&few).max(taken(&most));
    let mut price = FIRST_PRICE * 2;
    for connections in CONNECTIONS {
        price += FIRST_PRICE;
        let bidders = Bidders::raising_from(bidders_of(BIDDERS), &on, price);
        let callers = Callers::start(server.address, connections, Pace::PerSecond(rate), bidders);
        std::thread::sleep(Duration::from_secs(1));
        let window = Window::look(&server, lasts);
        let rss_mib = server.rss_mib();
        let called = callers.stop();
        // The moment that the last of it is answered.
        price += FIRST_PRICE;
        let at_once = Course { price, warm_up: Duration::ZERO, ..Course::on(&on, BIDDERS, Duration::from_secs(1)) };
        let after = bid::bids(&server, &at_once);
        let mut by_status = BTreeMap::<u16, usize>::new();
        called.answers.iter().for_each(|answer| *by_status.entry(answer.status).or_default() += 1);
        let took = |status| -> Times { window.took(&called.answers, |s| s == status) };
        let (accepted, shed, low) = (took(201), took(503), took(409));
        table.line([
            format!("twice as many, over {} connections", count(connections)),
            number(rate),
            number(window.rate(accepted.len())),
            number(accepted.ms(0.5)),
            number(accepted.ms(0.99)),
            number(window.rate(shed.len())),
            number(shed.ms(0.99)),
            number(window.rate(low.len())),
            number(window.server_percent()),
            number(rss_mib),
        ]);
        table.line(closed("the second after it, 64 connections", &after));
        let all = called.answers.len() + called.left_out;
        println!(
            "overload: answers by status {by_status:?}, connections that ended instead {}; of {all} bids that were due {} \
             were left out, because all {connections} connections waited for an answer",
            called.unanswered, called.left_out
        );
    }
    Report::of_tables([table])
}

/// Bids a second that were judged.
fn taken(bids: &Bids) -> f64 {
    bids.accepted_a_second + bids.refused_a_second
}

/// A line of bids each of which waited for the answer to the one before.
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
