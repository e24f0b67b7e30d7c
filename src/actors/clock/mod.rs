//! Starts, last minutes and ends of auctions, each at its time.

pub(crate) mod auction_clock;
pub(crate) mod deadlines;
