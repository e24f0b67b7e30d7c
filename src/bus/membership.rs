//! Which other nodes live, judged by the messages that arrive from them. A plain struct: the time is an argument.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    time::{Duration, Instant},
};

use super::NodeId;
use crate::domain::GoodsId;

/// A node is gone when nothing has arrived from it for this time. Nodes send a heartbeat every second.
const GONE_AFTER: Duration = Duration::from_secs(5);

pub(crate) struct NodeMembership {
    me: NodeId,
    seen_at: HashMap<NodeId, Instant>,
}

impl NodeMembership {
    pub(crate) fn new(me: NodeId) -> Self {
        Self { me, seen_at: HashMap::new() }
    }

    /// A message of this node has arrived. True if the node was not known to live.
    pub(crate) fn seen(&mut self, node: NodeId, now: Instant) -> bool {
        self.seen_at.insert(node, now).is_none()
    }

    /// A node has announced that it stops. True if it was known to live.
    pub(crate) fn left(&mut self, node: NodeId) -> bool {
        self.seen_at.remove(&node).is_some()
    }

    /// This node could not receive until now. Every node gets the whole time again to send something.
    pub(crate) fn reconnected(&mut self, now: Instant) {
        self.seen_at.values_mut().for_each(|at| *at = now);
    }

    /// Removes the nodes that are gone, and returns them.
    pub(crate) fn take_gone(&mut self, now: Instant) -> Vec<NodeId> {
        self.seen_at.extract_if(|_, at| now.saturating_duration_since(*at) > GONE_AFTER).map(|(node, _)| node).collect()
    }

    /// How many other nodes live.
    pub(crate) fn others(&self) -> usize {
        self.seen_at.len()
    }

    /// Whether this node ranks first for these goods. Nodes of one build that know the same nodes agree on the rank.
    /// Otherwise two may do the same, or all wait a little; neither does harm.
    pub(crate) fn is_first_for(&self, goods: GoodsId) -> bool {
        let rank = |node: NodeId| {
            let mut hasher = DefaultHasher::new();
            (node.bits(), goods.get()).hash(&mut hasher);
            (hasher.finish(), node)
        };
        let mine = rank(self.me);
        self.seen_at.keys().all(|other| rank(*other) > mine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(bits: u64) -> NodeId {
        NodeId::from_bits(bits)
    }

    #[test]
    fn a_silent_node_is_reported_gone_once() {
        let begin = Instant::now();
        let after = |s| begin + Duration::from_secs(s);
        let mut membership = NodeMembership::new(node(1));
        assert!(membership.seen(node(2), begin) && !membership.seen(node(2), begin));
        membership.seen(node(3), after(3));
        assert_eq!(membership.take_gone(after(5)), []);
        assert_eq!(membership.take_gone(after(6)), [node(2)]);
        assert_eq!(membership.take_gone(after(7)), []);
        assert_eq!(membership.others(), 1);
        assert!(membership.left(node(3)) && !membership.left(node(3)));
    }

    #[test]
    fn no_node_is_gone_just_because_this_one_could_not_receive() {
        let begin = Instant::now();
        let after = |s| begin + Duration::from_secs(s);
        let mut membership = NodeMembership::new(node(1));
        membership.seen(node(2), begin);
        membership.reconnected(after(60));
        assert_eq!(membership.take_gone(after(64)), []);
        assert_eq!(membership.take_gone(after(66)), [node(2)]);
    }

    #[test]
    fn all_nodes_agree_which_of_them_is_first_for_goods() {
        let all = [node(11), node(22), node(33)];
        let now = Instant::now();
        let views = all.map(|me| {
            let mut membership = NodeMembership::new(me);
            all.iter().filter(|other| **other != me).for_each(|other| {
                membership.seen(*other, now);
            });
            membership
        });
        let mut firsts = [0; 3];
        for goods in (1..=300).map(GoodsId::from_stored) {
            let first: Vec<usize> = (0..3).filter(|at| views[*at].is_first_for(goods)).collect();
            assert_eq!(first.len(), 1);
            firsts[first[0]] += 1;
        }
        assert!(firsts.iter().all(|count| *count > 50), "uneven shares: {firsts:?}");
        assert!(NodeMembership::new(node(1)).is_first_for(GoodsId::from_stored(1)), "alone");
    }
}
