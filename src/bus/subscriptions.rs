//! Which channels this node is subscribed to, and which it should be. A plain struct: `link` asks it what to do on the
//! connection and reports what is done. It holds only channels that have
//! subscribers, or are about to be given up.

use std::collections::{HashMap, HashSet, hash_map::Entry};

use tokio::sync::oneshot;

use super::channel::Channel;

#[derive(Default)]
struct Subscription {
    subscribers: usize,
    is_subscribed: bool,
    /// Answered when the channel is subscribed to; dropped when there is no connection.
    waiting: Vec<oneshot::Sender<()>>,
}

#[derive(Default)]
pub(crate) struct Subscriptions {
    channels: HashMap<Channel, Subscription>,
    /// Channels that may need a step.
    changed: HashSet<Channel>,
    is_connected: bool,
}

/// What is to do on the connection.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Steps {
    pub subscribe: Vec<Channel>,
    pub unsubscribe: Vec<Channel>,
}

impl Steps {
    pub(crate) fn is_empty(&self) -> bool {
        self.subscribe.is_empty() && self.unsubscribe.is_empty()
    }
}

impl Subscriptions {
    /// Adds a subscriber of the channel. True if it has to wait for `confirm`.
    pub(crate) fn add(&mut self, channel: Channel, confirm: oneshot::Sender<()>) -> bool {
        let subscription = self.channels.entry(channel).or_default();
        subscription.subscribers += 1;
        if subscription.is_subscribed || !self.is_connected {
            return false;
        }
        subscription.waiting.push(confirm);
        self.changed.insert(channel);
        true
    }

    /// Removes a subscriber of the channel.
    pub(crate) fn remove(&mut self, channel: Channel) {
        let Entry::Occupied(mut entry) = self.channels.entry(channel) else { return };
        let subscription = entry.get_mut();
        subscription.subscribers = subscription.subscribers.saturating_sub(1);
        if subscription.subscribers > 0 {
            return;
        }
        if self.is_connected {
            // It may be subscribed to, or a step for it may be under way.
            self.changed.insert(channel);
        } else {
            entry.remove();
        }
    }

    /// There is a new connection, on which nothing is subscribed to yet.
    pub(crate) fn connected(&mut self) {
        self.is_connected = true;
        self.changed = self.channels.keys().copied().collect();
    }

    /// The connection is lost. Those who wait for it stop waiting.
    pub(crate) fn disconnected(&mut self) {
        self.is_connected = false;
        self.changed.clear();
        self.channels.retain(|_, subscription| subscription.subscribers > 0);
        for subscription in self.channels.values_mut() {
            subscription.is_subscribed = false;
            // Dropping a sender answers its receiver.
            subscription.waiting.clear();
        }
    }

    /// The next steps, for at most `limit` channels. Before the next call they are [`done`](Self::done), or the
    /// connection is lost.
    pub(crate) fn steps(&mut self, limit: usize) -> Steps {
        let mut steps = Steps::default();
        let next: Vec<Channel> = self.changed.iter().copied().take(limit).collect();
        for channel in next {
            self.changed.remove(&channel);
            let Entry::Occupied(mut entry) = self.channels.entry(channel) else { continue };
            match (entry.get().subscribers > 0, entry.get().is_subscribed) {
                (true, false) => steps.subscribe.push(channel),
                (false, true) => {
                    // From here on a new subscriber waits until the channel is subscribed to again.
                    entry.get_mut().is_subscribed = false;
                    steps.unsubscribe.push(channel);
                }
                (true, true) => {}
                (false, false) => {
                    entry.remove();
                }
            }
        }
        steps
    }

    /// Redis has confirmed these steps.
    pub(crate) fn done(&mut self, steps: &Steps) {
        for channel in &steps.subscribe {
            let Some(subscription) = self.channels.get_mut(channel) else { continue };
            subscription.is_subscribed = true;
            for confirm in subscription.waiting.drain(..) {
                let _ = confirm.send(());
            }
            if subscription.subscribers == 0 {
                self.changed.insert(*channel);
            }
        }
        for channel in &steps.unsubscribe {
            let Entry::Occupied(entry) = self.channels.entry(*channel) else { continue };
            if entry.get().subscribers == 0 {
                entry.remove();
            } else {
                // A subscriber was added meanwhile.
                self.changed.insert(*channel);
            }
        }
    }

    /// Channels with subscribers, or not yet given up.
    pub(crate) fn len(&self) -> usize {
        self.channels.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::UserId;
    use proptest::prelude::*;

    fn channel(id: i64) -> Channel {
        Channel::User(UserId::from_stored(id))
    }

    fn add(subscriptions: &mut Subscriptions, id: i64) -> Option<oneshot::Receiver<()>> {
        let (confirm, confirmed) = oneshot::channel();
        subscriptions.add(channel(id), confirm).then_some(confirmed)
    }

    #[test]
    fn a_new_subscriber_waits_until_redis_has_confirmed() {
        let mut subscriptions = Subscriptions::default();
        subscriptions.connected();
        let mut first = add(&mut subscriptions, 1).expect("waits");
        let mut second = add(&mut subscriptions, 1).expect("waits too");
        let steps = subscriptions.steps(10);
        assert_eq!(steps, Steps { subscribe: vec![channel(1)], unsubscribe: vec![] });
        assert!(first.try_recv().is_err(), "not before Redis has confirmed it");
        subscriptions.done(&steps);
        assert!(first.try_recv().is_ok() && second.try_recv().is_ok());
        assert!(add(&mut subscriptions, 1).is_none(), "it is subscribed to already");
        assert!(subscriptions.steps(10).is_empty());
    }

    #[test]
    fn nobody_waits_without_a_connection_and_all_channels_are_subscribed_to_when_there_is_one() {
        let mut subscriptions = Subscriptions::default();
        assert!(add(&mut subscriptions, 1).is_none());
        subscriptions.connected();
        let steps = subscriptions.steps(10);
        assert_eq!(steps.subscribe, [channel(1)]);
        let mut waits = add(&mut subscriptions, 2).expect("waits");
        subscriptions.disconnected();
        assert_eq!(waits.try_recv(), Err(oneshot::error::TryRecvError::Closed), "the wait ends with the connection");
        subscriptions.connected();
        assert_eq!(subscriptions.steps(10).subscribe.len(), 2);
    }

    #[test]
    fn a_subscriber_added_while_a_channel_is_given_up_has_it_subscribed_to_again() {
        let mut subscriptions = Subscriptions::default();
        subscriptions.connected();
        let _ = add(&mut subscriptions, 1);
        let steps = subscriptions.steps(10);
        subscriptions.done(&steps);
        subscriptions.remove(channel(1));
        let giving_up = subscriptions.steps(10);
        assert_eq!(giving_up.unsubscribe, [channel(1)]);
        let mut waits = add(&mut subscriptions, 1).expect("it is no longer subscribed to");
        subscriptions.done(&giving_up);
        assert!(waits.try_recv().is_err());
        let again = subscriptions.steps(10);
        assert_eq!(again.subscribe, [channel(1)]);
        subscriptions.done(&again);
        assert!(waits.try_recv().is_ok());
    }

    proptest! {
        /// Whatever the order of calls: when no step is left, exactly the channels with subscribers are subscribed to.
        #[test]
        fn channels_with_subscribers_are_subscribed_to(steps in prop::collection::vec((0i64..4, 0u8..4), 1..100)) {
            let mut subscriptions = Subscriptions::default();
            let mut subscribers: HashMap<i64, usize> = HashMap::new();
            let mut subscribed: HashSet<Channel> = HashSet::new();
            let mut work = |subscriptions: &mut Subscriptions| {
                let todo = subscriptions.steps(1);
                for one in &todo.subscribe { assert!(subscribed.insert(*one)); }
                for one in &todo.unsubscribe { assert!(subscribed.remove(one)); }
                subscriptions.done(&todo);
                (todo.is_empty(), subscribed.clone())
            };
            subscriptions.connected();
            for (id, what) in steps {
                match what {
                    0 | 1 => { let _ = add(&mut subscriptions, id); *subscribers.entry(id).or_default() += 1; }
                    2 => if let Some(count) = subscribers.get_mut(&id).filter(|count| **count > 0) {
                        *count -= 1;
                        subscriptions.remove(channel(id));
                    },
                    _ => { work(&mut subscriptions); }
                }
            }
            let mut now = HashSet::new();
            for _ in 0..50 { now = work(&mut subscriptions).1; }
            let used = subscribers.iter().filter(|(_, count)| **count > 0);
            let expected: HashSet<Channel> = used.map(|(id, _)| channel(*id)).collect();
            prop_assert_eq!(now, expected.clone());
            prop_assert_eq!(subscriptions.len(), expected.len());
        }
    }
}
