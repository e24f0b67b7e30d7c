//! Which channels this node listens on, and which it should. Plain: whoever has the connection looks here what there is
//! to do. It holds no more than there are listeners.

use std::collections::{HashMap, HashSet, hash_map::Entry};

use tokio::sync::oneshot;

use super::channel::Channel;

#[derive(Default)]
struct Want {
    holders: usize,
    is_subscribed: bool,
    /// Told when it is subscribed, or when that can't be had now.
    waiting: Vec<oneshot::Sender<()>>,
}

#[derive(Default)]
pub(crate) struct Subscriptions {
    channels: HashMap<Channel, Want>,
    /// Those to look at.
    changed: HashSet<Channel>,
    is_connected: bool,
}

/// What is to be done on the connection.
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
    /// One listener more; true if `tell` is told when it can hear.
    pub(crate) fn hold(&mut self, channel: Channel, tell: oneshot::Sender<()>) -> bool {
        let want = self.channels.entry(channel).or_default();
        want.holders += 1;
        if want.is_subscribed || !self.is_connected {
            return false;
        }
        want.waiting.push(tell);
        self.changed.insert(channel);
        true
    }

    /// One listener less.
    pub(crate) fn release(&mut self, channel: Channel) {
        let Entry::Occupied(mut entry) = self.channels.entry(channel) else { return };
        let want = entry.get_mut();
        want.holders = want.holders.saturating_sub(1);
        if want.holders > 0 {
            return;
        }
        if self.is_connected {
            // Perhaps subscribed, perhaps on the way to it.
            self.changed.insert(channel);
        } else {
            entry.remove();
        }
    }

    /// A connection is there: everything that is held has to be subscribed.
    pub(crate) fn connected(&mut self) {
        self.is_connected = true;
        self.changed = self.channels.keys().copied().collect();
    }

    /// The connection is gone: nobody waits for it.
    pub(crate) fn disconnected(&mut self) {
        self.is_connected = false;
        self.changed.clear();
        self.channels.retain(|_, want| want.holders > 0);
        for want in self.channels.values_mut() {
            want.is_subscribed = false;
            // Dropped, which tells them.
            want.waiting.clear();
        }
    }

    /// What there is to do, at most so many channels of each; done, or the connection lost, before this is asked again.
    pub(crate) fn steps(&mut self, at_most: usize) -> Steps {
        let mut steps = Steps::default();
        let looked: Vec<Channel> = self.changed.iter().copied().take(at_most).collect();
        for channel in looked {
            self.changed.remove(&channel);
            let Entry::Occupied(mut entry) = self.channels.entry(channel) else { continue };
            match (entry.get().holders > 0, entry.get().is_subscribed) {
                (true, false) => steps.subscribe.push(channel),
                (false, true) => {
                    // Who comes from here on waits until it is subscribed again.
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

    /// These steps are done.
    pub(crate) fn done(&mut self, steps: &Steps) {
        for channel in &steps.subscribe {
            let Some(want) = self.channels.get_mut(channel) else { continue };
            want.is_subscribed = true;
            for tell in want.waiting.drain(..) {
                let _ = tell.send(());
            }
            if want.holders == 0 {
                self.changed.insert(*channel);
            }
        }
        for channel in &steps.unsubscribe {
            let Entry::Occupied(entry) = self.channels.entry(*channel) else { continue };
            if entry.get().holders == 0 {
                entry.remove();
            } else {
                // Somebody came meanwhile.
                self.changed.insert(*channel);
            }
        }
    }

    /// Channels held or not yet given up.
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

    fn hold(wanted: &mut Subscriptions, id: i64) -> Option<oneshot::Receiver<()>> {
        let (tell, told) = oneshot::channel();
        wanted.hold(channel(id), tell).then_some(told)
    }

    #[test]
    fn who_holds_a_channel_is_told_when_it_is_subscribed() {
        let mut wanted = Subscriptions::default();
        wanted.connected();
        let mut first = hold(&mut wanted, 1).expect("waits");
        let mut second = hold(&mut wanted, 1).expect("waits too");
        let steps = wanted.steps(10);
        assert_eq!(steps, Steps { subscribe: vec![channel(1)], unsubscribe: vec![] });
        assert!(first.try_recv().is_err(), "not before it is done");
        wanted.done(&steps);
        assert!(first.try_recv().is_ok() && second.try_recv().is_ok());
        assert!(hold(&mut wanted, 1).is_none(), "it is subscribed already");
        assert!(wanted.steps(10).is_empty());
    }

    #[test]
    fn nobody_waits_for_a_connection_that_is_not_there_and_all_is_subscribed_when_it_is() {
        let mut wanted = Subscriptions::default();
        assert!(hold(&mut wanted, 1).is_none());
        wanted.connected();
        let steps = wanted.steps(10);
        assert_eq!(steps.subscribe, [channel(1)]);
        let mut waits = hold(&mut wanted, 2).expect("waits");
        wanted.disconnected();
        assert_eq!(waits.try_recv(), Err(oneshot::error::TryRecvError::Closed), "it is told that there is none");
        wanted.connected();
        assert_eq!(wanted.steps(10).subscribe.len(), 2);
    }

    #[test]
    fn who_comes_while_a_channel_is_given_up_is_subscribed_again() {
        let mut wanted = Subscriptions::default();
        wanted.connected();
        let _ = hold(&mut wanted, 1);
        let steps = wanted.steps(10);
        wanted.done(&steps);
        wanted.release(channel(1));
        let giving_up = wanted.steps(10);
        assert_eq!(giving_up.unsubscribe, [channel(1)]);
        let mut waits = hold(&mut wanted, 1).expect("it is not subscribed any more");
        wanted.done(&giving_up);
        assert!(waits.try_recv().is_err());
        let again = wanted.steps(10);
        assert_eq!(again.subscribe, [channel(1)]);
        wanted.done(&again);
        assert!(waits.try_recv().is_ok());
    }

    proptest! {
        /// Whoever comes and goes: when nothing is left to do, exactly what is held is subscribed.
        #[test]
        fn what_is_held_is_subscribed(steps in prop::collection::vec((0i64..4, 0u8..4), 1..100)) {
            let mut wanted = Subscriptions::default();
            let mut held: HashMap<i64, usize> = HashMap::new();
            let mut subscribed: HashSet<Channel> = HashSet::new();
            let mut work = |wanted: &mut Subscriptions| {
                let todo = wanted.steps(1);
                for one in &todo.subscribe { assert!(subscribed.insert(*one)); }
                for one in &todo.unsubscribe { assert!(subscribed.remove(one)); }
                wanted.done(&todo);
                (todo.is_empty(), subscribed.clone())
            };
            wanted.connected();
            for (id, what) in steps {
                match what {
                    0 | 1 => { let _ = hold(&mut wanted, id); *held.entry(id).or_default() += 1; }
                    2 => if let Some(count) = held.get_mut(&id).filter(|count| **count > 0) {
                        *count -= 1;
                        wanted.release(channel(id));
                    },
                    _ => { work(&mut wanted); }
                }
            }
            let mut now = HashSet::new();
            for _ in 0..50 { now = work(&mut wanted).1; }
            let expected: HashSet<Channel> = held.iter().filter(|(_, count)| **count > 0).map(|(id, _)| channel(*id)).collect();
            prop_assert_eq!(now, expected.clone());
            prop_assert_eq!(wanted.len(), expected.len());
        }
    }
}
