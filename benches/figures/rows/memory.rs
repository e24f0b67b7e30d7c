//! Memory of an idle alarm socket: how much the process grows with 5,000 of them and with 10,000. The reference is the
//! same process without any.

use std::time::Duration;

use crate::{
    row::{Reach, Report, Row, count, ratio, value},
    support::{
        bench_database::{BenchDatabase, FIRST_LISTENER, listeners_of},
        bulk,
        listeners::{Listeners, Opening},
        server::ServerOptions,
        sizes::Sizes,
    },
};

/// RSS without sockets, and for each socket at each of these counts, in KiB.
pub fn kib_a_socket(counts: &[usize], options: &ServerOptions) -> (f64, Vec<f64>) {
    let database = BenchDatabase::new();
    database.with_auctions(0, 1);
    let most = counts.iter().copied().max().unwrap_or(0);
    bulk::users(&database, FIRST_LISTENER, most);
    let server = database.serve(options);
    std::thread::sleep(Duration::from_millis(500));
    let alone = server.rss_kib();
    let mut openings: Vec<Opening> = listeners_of(most).map(Opening::of_alarms).collect();
    let (mut groups, mut connected) = (Vec::new(), 0);
    let each = counts.iter().map(|&count| {
        let more = openings.drain(..count - connected).collect();
        groups.push(Listeners::connect(server.address, more, "no frame"));
        connected = count;
        groups.iter().for_each(|group| group.wait_for_quiet(Duration::from_millis(300)));
        (server.rss_kib() - alone) / count as f64
    });
    let each = each.collect();
    groups.into_iter().for_each(Listeners::stop);
    (alone, each)
}

pub fn run(sizes: &Sizes) -> Report {
    let most = sizes.of("SOCKETS", 10_000);
    let options = ServerOptions { workers: sizes.workers(), ..ServerOptions::default() };
    let runs: Vec<_> = (0..sizes.runs(3)).map(|_| kib_a_socket(&[most / 2, most], &options)).collect();
    let of = |nth: usize| runs.iter().map(|(_, each)| each[nth]).collect::<Vec<f64>>();
    let (half, all) = (of(0), of(1));
    let growth =
        ratio(format!("of {} by of {}", count(most), count(most / 2)), &all, &half).reaching(Reach::AtMost(1.0));
    Report::of_rows([Row {
        name: "memory",
        figure: value(format!("a socket of {}", count(most)), " KiB", all.clone()),
        reference: value("process without any", " MiB", runs.iter().map(|(alone, _)| alone / 1024.0)),
        judged: vec![
            value(format!("a socket of {}", count(most / 2)), " KiB", half).reaching(Reach::AtMost(11.0)),
            value(format!("a socket of {}", count(most)), " KiB", all).reaching(Reach::AtMost(11.0)),
            growth,
        ],
        also: Vec::new(),
        note: String::new(),
    }])
}
