//! Which nodes live, as far as this one has heard of them. Plain: when it is now is an argument.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    time::{Duration, Instant},
};

use super::NodeId;
use crate::domain::GoodsId;

/// A node that has not been heard of for so long is gone. It says something every second.
const GONE_AFTER: Duration = Duration::from_secs(5);

pub(crate) struct NodeMembership {
    me: NodeId,
    heard_at: HashMap<NodeId, Instant>,
}

impl NodeMembership {
    pub(crate) fn new(me: NodeId) -> Self {
        Self { me, heard_at: HashMap::new() }
    }

    /// A node has said something; true if it was not known to live.
    pub(crate) fn heard(&mut self, node: NodeId, now: Instant) -> bool {
        self.heard_at.insert(node, now).is_none()
    }

    /// A node has said that it ends; true if it was there.
    pub(crate) fn left(&mut self, node: NodeId) -> bool {
        self.heard_at.remove(&node).is_some()
    }

    /// Nobody could be heard until now: each has its time again to say something.
    pub(crate) fn could_not_hear(&mut self, now: Instant) {
        self.heard_at.values_mut().for_each(|at| *at = now);
    }

    /// Those that are gone; each is named once.
    pub(crate) fn gone(&mut self, now: Instant) -> Vec<NodeId> {
        self.heard_at
            .extract_if(|_, at| now.saturating_duration_since(*at) > GONE_AFTER)
            .map(|(node, _)| node)
            .collect()
    }

    /// Other nodes that live.
    pub(crate) fn others(&self) -> usize {
        self.heard_at.len()
    }

    /// Whether no other node comes before this one for these goods. Nodes of one build that know the same nodes agree; where
    /// they don't, two do the same or all wait a little, and neither does harm.
    pub(crate) fn is_first_for(&self, goods: GoodsId) -> bool {
        let rank = |node: NodeId| {
            let mut hasher = DefaultHasher::new();
            (node.bits(), goods.get()).hash(&mut hasher);
            (hasher.finish(), node)
        };
        let mine = rank(self.me);
        self.heard_at.keys().all(|other| rank(*other) > mine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(bits: u64) -> NodeId {
        NodeId::of_test(bits)
    }

    #[test]
    fn a_node_that_says_nothing_is_gone_once() {
        let begin = Instant::now();
        let after = |s| begin + Duration::from_secs(s);
        let mut members = NodeMembership::new(node(1));
        assert!(members.heard(node(2), begin) && !members.heard(node(2), begin));
        members.heard(node(3), after(3));
        assert_eq!(members.gone(after(5)), []);
        assert_eq!(members.gone(after(6)), [node(2)]);
        assert_eq!(members.gone(after(7)), []);
        assert_eq!(members.others(), 1);
        assert!(members.left(node(3)) && !members.left(node(3)));
    }

    #[test]
    fn who_could_not_be_heard_is_not_gone() {
        let begin = Instant::now();
        let after = |s| begin + Duration::from_secs(s);
        let mut members = NodeMembership::new(node(1));
        members.heard(node(2), begin);
        members.could_not_hear(after(60));
        assert_eq!(members.gone(after(64)), []);
        assert_eq!(members.gone(after(66)), [node(2)]);
    }

    #[test]
    fn one_node_is_first_for_goods_and_all_agree_which() {
        let all = [node(11), node(22), node(33)];
        let now = Instant::now();
        let views = all.map(|me| {
            let mut members = NodeMembership::new(me);
            all.iter().filter(|other| **other != me).for_each(|other| {
                members.heard(*other, now);
            });
            members
        });
        let mut firsts = [0; 3];
        for goods in (1..=300).map(GoodsId::from_stored) {
            let first: Vec<usize> = (0..3).filter(|at| views[*at].is_first_for(goods)).collect();
            assert_eq!(first.len(), 1);
            firsts[first[0]] += 1;
        }
        assert!(firsts.iter().all(|count| *count > 50), "shared out: {firsts:?}");
        assert!(NodeMembership::new(node(1)).is_first_for(GoodsId::from_stored(1)), "alone");
    }
}
