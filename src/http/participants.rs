//! Asks the rooms who is in them, for the responses about goods. If the rooms don't answer, the node
//! is shutting down; they count as empty then.

use std::{collections::HashMap, sync::Arc};

use super::Services;
use crate::{
    actors::{CountParticipants, GetBusiestRooms, GetParticipants},
    domain::{GoodsId, User},
};

/// The number of participants by goods; goods without any may be missing.
pub(super) type Participants = HashMap<GoodsId, usize>;

/// Counts the participants of these goods.
pub(super) async fn participants(services: &Services, goods: &[GoodsId]) -> Participants {
    let counts = services.rooms.send(CountParticipants(goods.to_vec())).await.unwrap_or_default();
    goods.iter().copied().zip(counts).collect()
}

/// The goods that have participants, the most first.
pub(super) async fn busiest(services: &Services) -> Vec<(GoodsId, usize)> {
    services.rooms.send(GetBusiestRooms).await.unwrap_or_default()
}

/// The users in the room of these goods, by their current names: a name may have changed since its user joined.
pub(super) async fn present_users(services: &Services, goods: GoodsId) -> Vec<Arc<User>> {
    let Ok(present) = services.rooms.send(GetParticipants(goods)).await else { return Vec::new() };
    present.0.iter().map(|user| services.users.current(user.id).unwrap_or_else(|| Arc::clone(user))).collect()
}
