//! Who is in the auction rooms, as the shapes of goods say it: the one place where http asks for it. When the rooms can't
//! be asked the node is about to end; then it is nobody.

use std::{collections::HashMap, sync::Arc};

use super::Services;
use crate::{
    actors::{CountParticipants, GetBusiest, GetParticipants},
    domain::{GoodsId, User},
};

/// How many participants goods have; goods without any may be missing.
pub(super) type Participants = HashMap<GoodsId, usize>;

/// How many participants these goods have now.
pub(super) async fn participants(services: &Services, goods: &[GoodsId]) -> Participants {
    let counts = services.rooms.send(CountParticipants(goods.to_vec())).await.unwrap_or_default();
    goods.iter().copied().zip(counts).collect()
}

/// Goods that have participants now, most first.
pub(super) async fn busiest(services: &Services) -> Vec<(GoodsId, usize)> {
    services.rooms.send(GetBusiest).await.unwrap_or_default()
}

/// Who is in the room of these goods now, as they are called now: a name may have changed since its user came in.
pub(super) async fn present(services: &Services, goods: GoodsId) -> Vec<Arc<User>> {
    let Ok(present) = services.rooms.send(GetParticipants(goods)).await else { return Vec::new() };
    present.0.iter().map(|user| services.users.fresh(user.id).unwrap_or_else(|| Arc::clone(user))).collect()
}
