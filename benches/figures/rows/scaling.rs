//! The same with more of everything: sockets, live goods, workers, inbox rows, ended goods. The cost of one should not
//! change.

use std::time::Duration;

use super::{
    bid::{self, BidLoad},
    fan_out, memory, outbid, refused,
};
use crate::{
    row::{Report, Table, count, number},
    support::{
        bench_database::{BenchDatabase, FIRST_LISTENER, listeners_of},
        bidders::Same,
        bulk,
        callers::{Callers, Pace},
        listeners::{Listeners, Opening},
        server::{Server, ServerOptions},
        sizes::Sizes,
        window::Window,
    },
};

const CONNECTIONS: usize = 64;

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

pub fn by_sockets(sizes: &Sizes) -> Report {
    let mut table = Table::new(
        "Alarm sockets",
        &[
            "sockets",
            "KiB each",
            "µs to come",
            "a start: µs a frame",
            "4 starts: µs a frame",
            "last of a start, ms",
            "bids/s beside them",
            "p99 ms",
            "µs a bid",
        ],
    );
    let only = sizes.of("SOCKETS", 0);
    let all = if only > 0 { vec![only] } else { vec![1000, 5000, 10_000] };
    for sockets in all {
        let (_, each) = memory::kib_a_socket(&[sockets], &ServerOptions::default());
        let found = fan_out::fan_outs(fan_out::Event::Start, sockets, 2, &ServerOptions::default());
        let cpu = |these: &[fan_out::FanOut]| median(these.iter().map(|one| one.cpu_us).collect());
        let database = BenchDatabase::new();
        let goods = database.with_auctions(CONNECTIONS, 10);
        bulk::users(&database, FIRST_LISTENER, sockets);
        let server = database.serve(&ServerOptions::default());
        let listeners = listeners_of(sockets).map(Opening::of_alarms).collect();
        let before = server.cpu().all();
        let listeners = Listeners::connect(server.address, listeners, "no frame");
        // Each socket has read its inbox.
        listeners.wait_for_quiet(Duration::from_millis(500));
        let came = server.cpu().all().saturating_sub(before);
        let bids = bid::bids(&server, &BidLoad::on(&goods, CONNECTIONS, sizes.lasts()));
        listeners.stop();
        table.line([
            count(sockets),
            number(each[0]),
            number(came.as_secs_f64() * 1e6 / sockets as f64),
            number(cpu(&found.one)),
            number(cpu(&found.four)),
            number(median(found.one.iter().map(|one| one.last_ms).collect())),
            number(bids.accepted_a_second),
            number(bids.p99_ms),
            number(bids.cpu_us),
        ]);
    }
    Report::of_tables([table])
}

/// Bids, refusals and latency of a server, as cells of the table.
fn of_bids(server: &Server, goods: &[i64], sizes: &Sizes) -> Vec<String> {
    let bids = bid::bids(server, &BidLoad::on(goods, CONNECTIONS, sizes.lasts()));
    let (health, refused) = refused::health_and_refused(server, CONNECTIONS, goods, sizes.lasts());
    vec![
        number(bids.accepted_a_second),
        number(bids.p99_ms),
        number(bids.cpu_us),
        number(refused.a_second),
        number(refused.cpu_us),
        number(health.a_second),
    ]
}

const OF_BIDS: [&str; 6] = ["bids/s", "p99 ms", "µs a bid", "refused/s", "µs a refusal", "`/health/live`/s"];

pub fn by_goods(sizes: &Sizes) -> Report {
    let mut table = Table::new("Live goods", &[&["goods"], &OF_BIDS[..]].concat());
    for live in [1, 10, 1000] {
        let database = BenchDatabase::new();
        let goods = database.with_auctions(CONNECTIONS, live);
        let server = database.serve(&ServerOptions::default());
        table.line([count(live)].into_iter().chain(of_bids(&server, &goods, sizes)));
    }
    Report::of_tables([table])
}

pub fn by_workers(sizes: &Sizes) -> Report {
    let mut table =
        Table::new("Workers", &[&["workers"], &OF_BIDS[..], &["a start to 5,000: µs a frame", "last, ms"]].concat());
    for workers in [1, 2] {
        let options = ServerOptions { workers: Some(workers), ..ServerOptions::default() };
        let database = BenchDatabase::new();
        let goods = database.with_auctions(CONNECTIONS, 10);
        let server = database.serve(&options);
        let cells = of_bids(&server, &goods, sizes);
        drop(server);
        let found = fan_out::fan_outs(fan_out::Event::Start, 5000, 2, &options);
        let cpu = median(found.one.iter().map(|one| one.cpu_us).collect());
        let last = median(found.one.iter().map(|one| one.last_ms).collect());
        table.line([count(workers)].into_iter().chain(cells).chain([number(cpu), number(last)]));
    }
    Report::of_tables([table])
}

pub fn by_inbox(sizes: &Sizes) -> Report {
    const USERS: usize = 100_000;
    let mut table = Table::new(
        "Rows in the inboxes of 100,000 users",
        &[
            "rows",
            "bids/s",
            "p99 ms",
            "µs a bid",
            "outbid p50 ms",
            "p99 ms",
            "µs to open a socket",
            "`GET /alarms` p50 ms",
        ],
    );
    for each in [0, 100] {
        let database = BenchDatabase::new();
        let goods = database.with_auctions(CONNECTIONS, 11);
        bulk::users(&database, FIRST_LISTENER, USERS);
        if each > 0 {
            bulk::inboxes(&database, USERS, each);
        }
        let server = database.serve(&ServerOptions::default());
        let bids = bid::bids(&server, &BidLoad::on(&goods[..10], CONNECTIONS, sizes.lasts()));
        let outbid = outbid::latencies(&server, goods[10], 1000);
        let mut idle = None;
        let opening = Window::until(&server, || {
            let all = listeners_of(2000).map(Opening::of_alarms).collect();
            idle = Some(Listeners::connect(server.address, all, "no frame"));
        });
        let inbox = pages(&server, Same::get_as(FIRST_LISTENER + 7, "/alarms"), sizes);
        if let Some(idle) = idle {
            idle.stop();
        }
        table.line([
            count(USERS * each),
            number(bids.accepted_a_second),
            number(bids.p99_ms),
            number(bids.cpu_us),
            number(outbid.ms(0.5)),
            number(outbid.ms(0.99)),
            number(opening.micros_each(2000)),
            number(inbox),
        ]);
    }
    Report::of_tables([table])
}

/// How long a page takes for one caller, p50 in ms.
fn pages(server: &Server, page: Same, sizes: &Sizes) -> f64 {
    let callers = Callers::start(server.address, 1, Pace::Answered, page);
    std::thread::sleep(Duration::from_millis(300));
    let window = Window::measure(server, sizes.lasts() / 3);
    let answers = callers.stop().answers;
    assert!(answers.iter().all(|answer| answer.status == 200));
    window.took(&answers, |_| true).ms(0.5)
}

pub fn by_old_goods(sizes: &Sizes) -> Report {
    let mut table = Table::new(
        "Goods that there are beside 10 live ones",
        &[&["goods"], &OF_BIDS[..], &["`GET /goods/` p50 ms", "`GET /goods/{id}/` p50 ms", "idle CPU %", "RSS MiB"]]
            .concat(),
    );
    for old in [0, 100_000] {
        let database = BenchDatabase::new();
        let goods = database.with_auctions(CONNECTIONS, 10);
        if old > 0 {
            bulk::ended_goods(&database, 1000, old);
        }
        let server = database.serve(&ServerOptions::default());
        std::thread::sleep(Duration::from_secs(1));
        let idle = Window::measure(&server, Duration::from_secs(2)).server_percent();
        let cells = of_bids(&server, &goods, sizes);
        let list = pages(&server, Same::get("/goods/"), sizes);
        let one = pages(&server, Same::get(&format!("/goods/{}/", goods[0])), sizes);
        let rest = [number(list), number(one), number(idle), number(server.rss_mib())];
        table.line([count(old)].into_iter().chain(cells).chain(rest));
    }
    Report::of_tables([table])
}
