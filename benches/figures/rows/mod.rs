//! The rows, each a program of its own.

mod bid;
mod big_room;
mod big_start;
mod fan_out;
mod memory;
mod nodes;
mod outbid;
mod overload;
mod postgres_bid;
mod refused;
mod scaling;

use crate::{row::Report, support::sizes::Sizes};

pub struct Program {
    pub name: &'static str,
    pub about: &'static str,
    pub run: fn(&Sizes) -> Report,
}

pub const PROGRAMS: [Program; 15] = [
    Program { name: "bid", about: "accepted bids a second, against one bid a transaction", run: bid::run },
    Program { name: "refused", about: "bids refused from memory, against /health/live", run: refused::run },
    Program {
        name: "postgres",
        about: "accepted bids a second on PostgreSQL, against pgbench",
        run: postgres_bid::run,
    },
    Program { name: "outbid", about: "from a bid to the loser's alarm, against fdatasync", run: outbid::run },
    Program { name: "fan-out", about: "CPU of a frame to 5,000 sockets, against a bare loop", run: fan_out::run },
    Program { name: "memory", about: "memory of an idle alarm socket", run: memory::run },
    Program { name: "big-start", about: "a start that 100,000 like while others bid", run: big_start::run },
    Program { name: "big-room", about: "bids before 10,000 watchers, against a bare loop", run: big_room::run },
    Program { name: "nodes", about: "a bid and a frame with one, two and three nodes", run: nodes::run },
    Program { name: "by-sockets", about: "the same with 1,000, 5,000, 10,000 sockets", run: scaling::by_sockets },
    Program { name: "by-goods", about: "the same with 1, 10, 1,000 live goods", run: scaling::by_goods },
    Program { name: "by-workers", about: "the same with 1 and 2 workers", run: scaling::by_workers },
    Program { name: "by-inbox", about: "the same with ten million rows in the inboxes", run: scaling::by_inbox },
    Program { name: "by-old-goods", about: "the same with 100,000 goods", run: scaling::by_old_goods },
    Program { name: "overload", about: "twice as many bids as it can take", run: overload::run },
];
