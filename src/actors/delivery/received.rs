//! What the sessions of one worker have proved to have arrived, on its way to the hub: an event with thousands of
//! receivers is proved by as many pongs, and a message to another thread for each would cost more than reading it.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::{Duration, Instant},
};

use crate::domain::{AlarmId, UserId};

type Marks = Vec<(UserId, AlarmId)>;

/// The hub is told at most this often, but for who leaves. It writes marks down a few times a second.
const TELL_EVERY: Duration = Duration::from_millis(8);

/// Gathers what is proved while the worker goes through the sockets that have something to read, and for a moment more if
/// the hub has just been told.
#[derive(Clone)]
pub(crate) struct Receipts(Rc<Gathering>);

struct Gathering {
    marks: RefCell<Marks>,
    told_at: Cell<Option<Instant>>,
    /// The next telling is set.
    is_due: Cell<bool>,
    tell: Box<dyn Fn(Marks)>,
}

impl Receipts {
    pub(crate) fn told_to(tell: impl Fn(Marks) + 'static) -> Self {
        Self(Rc::new(Gathering {
            marks: RefCell::default(),
            told_at: Cell::new(None),
            is_due: Cell::new(false),
            tell: Box::new(tell),
        }))
    }

    /// The user has everything up to here. Told when the tasks that are ready now have had their turn, or a moment later.
    pub(crate) fn add(&self, user: UserId, up_to: AlarmId) {
        self.0.marks.borrow_mut().push((user, up_to));
        if self.0.is_due.replace(true) {
            return;
        }
        let receipts = self.clone();
        let wait = self.0.told_at.get().map(|at| TELL_EVERY.saturating_sub(at.elapsed()));
        actix_web::rt::spawn(async move {
            if let Some(wait) = wait.filter(|wait| !wait.is_zero()) {
                tokio::time::sleep(wait).await;
            }
            receipts.0.is_due.set(false);
            receipts.tell();
        });
    }

    /// Tells at once: a user who leaves may be back before the others have had their turn.
    pub(crate) fn tell(&self) {
        let marks = self.0.marks.take();
        if !marks.is_empty() {
            self.0.told_at.set(Some(Instant::now()));
            (self.0.tell)(marks);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_web::test]
    async fn what_is_proved_in_one_turn_is_told_once_and_nothing_of_it_is_lost() {
        let told = Rc::new(RefCell::new(Vec::new()));
        let tell = Rc::clone(&told);
        let receipts = Receipts::told_to(move |marks| tell.borrow_mut().push(marks));
        let mark = |user, alarm| (UserId::from_stored(user), AlarmId::from_stored(alarm));
        let all = [mark(1, 10), mark(2, 10), mark(1, 11)];
        for (user, up_to) in all {
            receipts.add(user, up_to);
        }
        assert!(told.borrow().is_empty());
        tokio::task::yield_now().await;
        assert_eq!(*told.borrow(), [all]);
        receipts.add(all[0].0, all[0].1);
        receipts.tell();
        tokio::task::yield_now().await;
        assert_eq!(told.borrow().len(), 2, "told at once, and not again");
    }

    #[actix_web::test]
    async fn what_is_proved_right_after_is_gathered_and_told_once() {
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let receipts = Receipts::told_to(move |marks| tell.send(marks).unwrap());
        let mark = |alarm| (UserId::from_stored(1), AlarmId::from_stored(alarm));
        let prove = |alarm| receipts.add(mark(alarm).0, mark(alarm).1);
        prove(10);
        assert_eq!(told.recv().await.unwrap(), [mark(10)]);
        prove(11);
        tokio::task::yield_now().await;
        prove(12);
        assert_eq!(told.recv().await.unwrap(), [mark(11), mark(12)]);
    }
}
