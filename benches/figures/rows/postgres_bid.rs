//! Accepted bids on PostgreSQL: the same as `bid`. The reference is `pgbench` with the statements of a bid, one bid a
//! transaction, the best of 1, 8 and 16 clients, on the same server.

use std::time::Duration;

use super::bid::{self, BidLoad, Bids};
use crate::{
    row::{Report, value},
    support::{
        bench_database::{BenchDatabase, FIRST_BIDDER},
        bidders::FIRST_PRICE,
        postgres::Server,
        server::ServerOptions,
        sizes::Sizes,
    },
};

const CLIENTS: [usize; 3] = [1, 8, 16];

/// What a bid must read and write without a ledger: the goods' row is locked, and ids come from sequences, so that bids
/// on different goods run in parallel and share a flush of the log. The rows are the same, without what only the ledger
/// needs (the counters' row, the commit marker), which would slow such clients down.
fn script(bidders: usize, goods: &[i64]) -> String {
    let (first, last) = (goods[0], goods[goods.len() - 1]);
    let last_bidder = FIRST_BIDDER + bidders as i64 - 1;
    format!(
        "\\set goods random({first}, {last})\n\\set bidder random({FIRST_BIDDER}, {last_bidder})\n\
         BEGIN;\n\
         SELECT id, seller_id, title, phase, starts_at, ends_at, start_price, min_increment, ending_soon_done,\n\
         \x20 coalesce(high_price, {FIRST_PRICE}) + 1 AS price, coalesce(high_bidder_id, {FIRST_BIDDER}) AS loser,\n\
         \x20 bid_seq + 1 AS seq FROM goods WHERE id = :goods FOR UPDATE \\gset\n\
         SELECT count(*) FROM mutes WHERE kind = 'outbid' AND user_id = :loser;\n\
         INSERT INTO bids (id, goods_id, seq, user_id, price, created_at)\n\
         \x20 VALUES (nextval('bid_ids'), :goods, :seq, :bidder, :price, 1700000000000000);\n\
         INSERT INTO bidders (goods_id, user_id, first_seq, last_seq) VALUES (:goods, :bidder, :seq, :seq)\n\
         \x20 ON CONFLICT (goods_id, user_id) DO UPDATE SET last_seq = excluded.last_seq;\n\
         SELECT nextval('alarm_ids') AS alarm \\gset\n\
         INSERT INTO alarms (id, event_id, kind, goods_id, goods_title, created_at, high_price, ends_at, bid_seq)\n\
         \x20 VALUES (:alarm, :alarm, 'outbid', :goods, 'camera', 1700000000000000, :price, 1800000000000000, :seq);\n\
         INSERT INTO inbox (user_id, alarm_id, is_read, muted) VALUES (:loser, :alarm, false, false);\n\
         UPDATE goods SET high_price = :price, high_bidder_id = :bidder, bid_seq = :seq WHERE id = :goods;\n\
         COMMIT;\n"
    )
}

pub fn run(sizes: &Sizes) -> Report {
    let (connections, goods) = (sizes.of("CONNECTIONS", 64), sizes.of("GOODS", 10));
    let Some(postgres) = Server::start() else { return Report::default() };
    let mut by_clients = [const { Vec::new() }; CLIENTS.len()];
    let runs: Vec<(f64, Bids)> = (0..sizes.runs(3))
        .map(|_| {
            let reference = BenchDatabase::on(&postgres);
            let on = reference.with_auctions(connections, goods);
            reference.sql("CREATE SEQUENCE bid_ids; CREATE SEQUENCE alarm_ids");
            let file = postgres.folder().join("bid.sql");
            std::fs::write(&file, script(connections, &on)).unwrap();
            let mut best = 0.0f64;
            for (clients, found) in CLIENTS.into_iter().zip(&mut by_clients) {
                let a_second = postgres.pgbench(&reference.url, &file, clients, sizes.lasts());
                found.push(a_second);
                best = best.max(a_second);
            }
            let database = BenchDatabase::on(&postgres);
            let on = database.with_auctions(connections, goods);
            let server = database.serve(&ServerOptions { workers: sizes.workers(), ..ServerOptions::default() });
            std::thread::sleep(Duration::from_millis(500));
            (best, bid::bids(&server, &BidLoad::on(&on, connections, sizes.lasts())))
        })
        .collect();
    let mut row = bid::row("bid on PostgreSQL", "pgbench, its best", 4.0, &runs);
    row.judged.truncate(1);
    row.also.insert(0, value("p99", " ms", runs.iter().map(|(_, bids)| bids.p99_ms)));
    for (clients, found) in CLIENTS.into_iter().zip(by_clients) {
        row.also.push(value(format!("pgbench, {clients} clients"), "/s", found));
    }
    Report::of_rows([row])
}
