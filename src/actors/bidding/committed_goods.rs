//! What is certain of goods under bid: committed facts, from which a bid may be refused at once. Plain. The bid actor of the
//! goods owns them; whoever takes bids in may look, so that a refusal costs no way through the actors.
//!
//! Yes never comes from here. Facts are learned on the ledger's thread right after the commit and before its answers: who
//! has heard of a price is never refused at an older one.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use crate::{
    domain::{Bid, GoodsId, GoodsState, Phase, Refusal},
    store::Nodes,
};

/// The newest committed state of one goods item that is known.
pub(crate) struct CommittedState {
    /// Who else judges bids: where several do, what one of them remembers is soon of another time. It would still refuse
    /// rightly, but name a price that has passed, so that only an end, which stays, is remembered.
    nodes: Nodes,
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    goods: Option<GoodsState>,
    /// The goods are deleted: nothing of them is remembered any more.
    forgotten: bool,
}

impl CommittedState {
    pub(crate) fn new(nodes: Nodes) -> Arc<Self> {
        Arc::new(Self { nodes, state: RwLock::default() })
    }

    /// A committed state. Commits are told in order, but memory never goes back.
    pub(crate) fn learn(&self, goods: &GoodsState) {
        if self.nodes == Nodes::Several && goods.phase != Phase::Ended {
            return;
        }
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let is_newer = |known: &GoodsState| known.bid_seq <= goods.bid_seq && known.phase != Phase::Ended;
        if !state.forgotten && state.goods.as_ref().is_none_or(is_newer) {
            state.goods = Some(goods.clone());
        }
    }

    /// The goods are deleted: what is known of them no longer holds.
    pub(crate) fn forget(&self) {
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = State { goods: None, forgotten: true };
    }

    /// A refusal that is certain, whatever has happened since.
    pub(crate) fn certain_refusal(&self, bid: &Bid) -> Option<Refusal> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.goods.as_ref().and_then(|goods| goods.certain_refusal(bid))
    }
}

/// What is known of all goods that have a bid actor, and no others: it is as bounded as these are.
#[derive(Default)]
pub struct CommittedGoods(RwLock<HashMap<GoodsId, Arc<CommittedState>>>);

impl CommittedGoods {
    pub(crate) fn insert(&self, goods: GoodsId, known: Arc<CommittedState>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(goods, known);
    }

    pub(crate) fn remove(&self, goods: GoodsId) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&goods);
    }

    /// A refusal that is certain; `None` if only the ledger can tell.
    pub(crate) fn certain_refusal(&self, bid: &Bid) -> Option<Refusal> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&bid.goods)?.certain_refusal(bid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Lead, Price, Timestamp, UserId};

    fn goods(high: i64) -> GoodsState {
        GoodsState {
            id: GoodsId::from_stored(1),
            seller: UserId::from_stored(1),
            title: String::new(),
            phase: Phase::Live,
            starts_at: Timestamp::from_secs(0),
            ends_at: Timestamp::from_secs(200),
            start_price: Price::from_stored(1),
            min_increment: Price::from_stored(1),
            lead: Some(Lead { user: UserId::from_stored(3), price: Price::from_stored(high) }),
            bid_seq: high,
            ending_soon_done: false,
        }
    }

    fn bid(price: i64) -> Bid {
        let (goods, user) = (GoodsId::from_stored(1), UserId::from_stored(2));
        Bid { goods, user, price: Price::from_stored(price), received_at: Timestamp::from_secs(100) }
    }

    #[test]
    fn a_no_comes_from_committed_facts_only_and_memory_never_goes_back() {
        let known = CommittedState::new(Nodes::One);
        assert_eq!(known.certain_refusal(&bid(1)), None, "nothing is known yet");
        known.learn(&goods(50));
        known.learn(&goods(40));
        assert!(matches!(known.certain_refusal(&bid(45)), Some(Refusal::TooLow { .. })));
        assert_eq!(known.certain_refusal(&bid(51)), None, "yes is the ledger's");
        known.learn(&GoodsState { phase: Phase::Ended, ..goods(60) });
        known.learn(&goods(70));
        assert_eq!(known.certain_refusal(&bid(99)), Some(Refusal::Ended));
        known.forget();
        known.learn(&goods(80));
        assert_eq!(known.certain_refusal(&bid(1)), None, "deleted goods are unknown, which the ledger says");
    }

    #[test]
    fn beside_other_nodes_only_an_end_is_a_committed_fact_for_long() {
        let known = CommittedState::new(Nodes::Several);
        known.learn(&goods(50));
        assert_eq!(known.certain_refusal(&bid(45)), None, "which price it is below only the ledger knows");
        known.learn(&GoodsState { phase: Phase::Ended, ..goods(50) });
        assert_eq!(known.certain_refusal(&bid(45)), Some(Refusal::Ended));
    }

    #[test]
    fn only_goods_with_an_actor_are_known() {
        let (all, known) = (CommittedGoods::default(), CommittedState::new(Nodes::One));
        known.learn(&goods(50));
        assert_eq!(all.certain_refusal(&bid(1)), None);
        all.insert(GoodsId::from_stored(1), known);
        assert!(all.certain_refusal(&bid(1)).is_some());
        all.remove(GoodsId::from_stored(1));
        assert_eq!(all.certain_refusal(&bid(1)), None);
    }
}
