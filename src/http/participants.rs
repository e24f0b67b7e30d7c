//! Who is in the auction rooms, as lists of goods need it: the one place where http asks for it.

use std::collections::HashMap;

use super::Services;
use crate::domain::GoodsId;

/// How many participants goods have; goods without any may be missing.
pub(super) type Participants = HashMap<GoodsId, usize>;

/// How many participants these goods have now.
pub(super) async fn participants(_services: &Services, _goods: &[GoodsId]) -> Participants {
    // Nobody can be in a room: there are no rooms in this version.
    Participants::new()
}

/// Goods that have participants now, most first.
pub(super) async fn busiest(_services: &Services) -> Vec<(GoodsId, usize)> {
    Vec::new()
}
