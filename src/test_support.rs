//! What tests and benches use of the inside, under the paths of the modules that it comes from.
//!
//! Behind the feature `test-support`: without it the crate's only public item is its command line.

pub mod actors {
    pub use crate::actors::{
        ArrivalGate, AuctionClock, BidAnswer, BidReply, BidRouter, CommittedGoods, GetClockFigures, PlaceBid,
        WatchGoods,
    };
}

pub mod app {
    pub use crate::app::{DEV_SECRET, Node, Settings};
}

pub mod bus {
    pub use crate::bus::{Bus, BusEvent, BusUrl, ConnectionId, IfFull, SocketClaim, Topology, UserSocket};
}

pub mod domain {
    pub use crate::domain::{
        Alarm, AlarmCursor, AlarmId, AlarmKind, Bid, DraftRules, GoodsDraft, GoodsId, LineText, Locale, NewGoods,
        Phase, Price, Refusal, StartInput, Timestamp, TradeText, User, UserId,
    };
}

pub mod http {
    pub use crate::http::{Keys, NewToken, TokenAlgorithm};
}

pub mod store {
    pub use crate::store::{
        AlarmQuery, Committed, DatabaseUrl, GoodsDetail, Ledger, LedgerThread, OpenedStore, Sharing, Store, StoreError,
        Tx, Write, WriteError,
    };

    pub mod writes {
        pub use crate::store::writes::{
            BidVerdict, CreateGoods, EndAuction, Ended, EnsureUser, KeyedBid, Like, LikeSet, LineSaid, MarkReceived,
            MessageSent, PlaceBids, RaiseEndingSoon, SayLine, SendTradeMessage, SetLike, StartAuction,
        };
    }
}

pub mod time_source {
    pub use crate::time_source::{SystemTime, TimeSource};
}
