//! Starts and ends auctions on time, and raises `ending_soon` a minute before an end. `auction_clock` is the actor;
//! `deadlines` decides what is due.

pub(crate) mod auction_clock;
pub(crate) mod deadlines;
