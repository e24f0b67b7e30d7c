//! Compares what an actor knows with the store, every few seconds, so that nothing that the bus has lost stays unknown
//! for longer.

use std::{cell::Cell, rc::Rc, time::Duration};

use actix::{fut::wrap_future, prelude::*};

use crate::store::StoreError;

/// The pause between two polls. A poll and the reads that follow it end well within the 5 s that the protocol allows.
const POLL_INTERVAL: Duration = Duration::from_secs(3);
/// The pause before the next poll when a read has failed.
const RETRY_DELAY: Duration = Duration::from_millis(500);
/// Keys that one read covers.
const BATCH_LIMIT: usize = 500;

/// What one actor polls.
pub(crate) struct Poller<A, K, R, F> {
    /// What is compared, for the log.
    what: &'static str,
    /// The keys to look up now.
    keys: fn(&mut A) -> Vec<K>,
    /// Looks up a batch of keys.
    read: R,
    /// Takes what was found for a batch.
    apply: fn(&mut A, Vec<K>, F),
    is_running: Cell<bool>,
}

impl<A, K, R, F, Found> Poller<A, K, R, F>
where
    A: Actor<Context = Context<A>>,
    K: Clone + 'static,
    R: Fn(Vec<K>) -> Found + 'static,
    F: 'static,
    Found: Future<Output = Result<F, StoreError>> + 'static,
{
    /// Starts polling, for as long as the actor lives.
    pub(crate) fn start(
        ctx: &mut Context<A>,
        what: &'static str,
        keys: fn(&mut A) -> Vec<K>,
        read: R,
        apply: fn(&mut A, Vec<K>, F),
    ) {
        let poller = Rc::new(Self { what, keys, read, apply, is_running: Cell::new(false) });
        ctx.run_interval(POLL_INTERVAL, move |actor, ctx| poller.poll(actor, ctx));
    }

    /// Looks up all keys, unless a poll is running.
    fn poll(self: &Rc<Self>, actor: &mut A, ctx: &mut Context<A>) {
        if !self.is_running.replace(true) {
            self.next_batch((self.keys)(actor), false, ctx);
        }
    }

    /// Looks up one batch of these keys, then the rest. Polls again soon if a read has `failed`.
    fn next_batch(self: &Rc<Self>, mut keys: Vec<K>, failed: bool, ctx: &mut Context<A>) {
        let (poller, batch) = (Rc::clone(self), keys.split_off(keys.len().saturating_sub(BATCH_LIMIT)));
        if batch.is_empty() {
            self.is_running.set(false);
            if failed {
                ctx.run_later(RETRY_DELAY, move |actor, ctx| poller.poll(actor, ctx));
            }
            return;
        }
        ctx.spawn(wrap_future((self.read)(batch.clone())).map(move |found, actor: &mut A, ctx| {
            let failed = failed || found.is_err();
            match found {
                Ok(found) => (poller.apply)(actor, batch, found),
                Err(error) => log::debug!(what:% = poller.what, error:%; "the state can't be compared with the store"),
            }
            poller.next_batch(keys, failed, ctx);
        }));
    }
}
