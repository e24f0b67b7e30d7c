//! Collects the proofs of receipt (acks and pongs) of one worker's sessions and sends them to the hub in batches. An
//! event with thousands of receivers brings as many pongs, and a message to the hub's thread for each would cost more
//! than reading it.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::{Duration, Instant},
};

use crate::domain::{AlarmId, UserId};

/// Received cursors: each user has every alarm up to this one.
type Cursors = Vec<(UserId, AlarmId)>;

/// The least time between two batches, except when a session ends. The hub writes cursors only a few times a second.
const SEND_INTERVAL: Duration = Duration::from_millis(8);

/// Batches cursors while the worker handles the sockets that are ready, and for the rest of [`SEND_INTERVAL`] if it has
/// just sent a batch. Clones share one batch.
#[derive(Clone)]
pub(crate) struct Receipts(Rc<Batch>);

struct Batch {
    cursors: RefCell<Cursors>,
    last_sent: Cell<Option<Instant>>,
    /// A task that sends the batch is spawned.
    is_scheduled: Cell<bool>,
    send: Box<dyn Fn(Cursors)>,
}

impl Receipts {
    /// Batches are passed to `send`.
    pub(crate) fn new(send: impl Fn(Cursors) + 'static) -> Self {
        Self(Rc::new(Batch {
            cursors: RefCell::default(),
            last_sent: Cell::new(None),
            is_scheduled: Cell::new(false),
            send: Box::new(send),
        }))
    }

    /// Adds that the user has received everything up to `up_to`. The batch is sent after the tasks that are ready now,
    /// but not before [`SEND_INTERVAL`] has passed since the last one.
    pub(crate) fn add(&self, user: UserId, up_to: AlarmId) {
        self.0.cursors.borrow_mut().push((user, up_to));
        if self.0.is_scheduled.replace(true) {
            return;
        }
        let receipts = self.clone();
        let wait = self.0.last_sent.get().map(|at| SEND_INTERVAL.saturating_sub(at.elapsed()));
        actix_web::rt::spawn(async move {
            if let Some(wait) = wait.filter(|wait| !wait.is_zero()) {
                tokio::time::sleep(wait).await;
            }
            receipts.0.is_scheduled.set(false);
            receipts.flush();
        });
    }

    /// Sends the batch at once. A session that ends does this, because its user may reconnect before the batch is due.
    pub(crate) fn flush(&self) {
        let cursors = self.0.cursors.take();
        if !cursors.is_empty() {
            self.0.last_sent.set(Some(Instant::now()));
            (self.0.send)(cursors);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_web::test]
    async fn receipts_of_one_turn_are_sent_in_one_batch_and_none_is_lost() {
        let batches = Rc::new(RefCell::new(Vec::new()));
        let sink = Rc::clone(&batches);
        let receipts = Receipts::new(move |cursors| sink.borrow_mut().push(cursors));
        let cursor = |user, alarm| (UserId::from_stored(user), AlarmId::from_stored(alarm));
        let all = [cursor(1, 10), cursor(2, 10), cursor(1, 11)];
        for (user, up_to) in all {
            receipts.add(user, up_to);
        }
        assert!(batches.borrow().is_empty());
        tokio::task::yield_now().await;
        assert_eq!(*batches.borrow(), [all]);
        receipts.add(all[0].0, all[0].1);
        receipts.flush();
        tokio::task::yield_now().await;
        assert_eq!(batches.borrow().len(), 2, "flush sends at once, and only once");
    }

    #[actix_web::test]
    async fn receipts_soon_after_a_batch_are_sent_together_in_the_next_one() {
        let (sender, mut batches) = tokio::sync::mpsc::unbounded_channel();
        let receipts = Receipts::new(move |cursors| sender.send(cursors).unwrap());
        let cursor = |alarm| (UserId::from_stored(1), AlarmId::from_stored(alarm));
        let add = |alarm| receipts.add(cursor(alarm).0, cursor(alarm).1);
        add(10);
        assert_eq!(batches.recv().await.unwrap(), [cursor(10)]);
        add(11);
        tokio::task::yield_now().await;
        add(12);
        assert_eq!(batches.recv().await.unwrap(), [cursor(11), cursor(12)]);
    }
}
