//! Tests of the outbox: no gap, no duplicate, no disorder in any interleaving, and bounded memory.

use super::*;
use proptest::prelude::*;

fn outbox(frames: usize) -> Outbox {
    Outbox::of_alarms(OutboxLimits { frames, bytes: 1 << 20 }, Arc::default())
}

fn alarm(id: i64) -> (AlarmId, Bytes) {
    (AlarmId::from_stored(id), Bytes::from(format!("{id},")))
}

/// Offers a live alarm, which comes after `previous` in the inbox.
fn offer(outbox: &mut Outbox, id: i64, previous: i64) -> Offered {
    let (id, bytes) = alarm(id);
    outbox.offer_alarm(id, &Rc::new(Frame::new(FrameKind::Alarm(id), bytes)), AlarmCursor::from_number(previous))
}

fn message(id: i64) -> TradeMessageId {
    TradeMessageId::from_stored(id)
}

fn offer_message(outbox: &mut Outbox, id: i64) -> Offered {
    outbox.offer_room_frame(&Rc::new(Frame::new(FrameKind::Trade(message(id)), alarm(id).1)))
}

fn page(ids: impl IntoIterator<Item = i64>) -> impl Iterator<Item = (AlarmId, Bytes)> {
    ids.into_iter().map(alarm)
}

/// Begins a read, and returns the number of the alarm after which it starts.
fn begin_reading(outbox: &mut Outbox) -> i64 {
    outbox.begin_reading().get()
}

fn catch_up_to(outbox: &mut Outbox, newest: i64) -> bool {
    outbox.catch_up_to(AlarmCursor::from_number(newest))
}

fn taken(outbox: &mut Outbox) -> String {
    let mut all = Vec::new();
    while let Some(chunk) = outbox.take() {
        all.extend_from_slice(&chunk.bytes());
    }
    String::from_utf8(all).unwrap()
}

#[test]
fn waiting_frames_are_taken_as_one_chunk() {
    let mut outbox = outbox(10);
    outbox.reached_inbox_end();
    for id in 1..=3 {
        assert_eq!(offer(&mut outbox, id, 0), Offered::Queued);
    }
    assert_eq!(outbox.take().map(Chunk::bytes), Some(Bytes::from("1,2,3,")));
    assert_eq!((outbox.taken().get(), outbox.bytes), (3, 0));
}

#[test]
fn an_overflow_closes_the_session_and_frees_the_memory() {
    let mut outbox = outbox(2);
    outbox.reached_inbox_end();
    assert_eq!(offer(&mut outbox, 1, 0), Offered::Queued);
    assert_eq!(offer(&mut outbox, 2, 0), Offered::Queued);
    assert_eq!(offer(&mut outbox, 3, 0), Offered::Overflow);
    assert_eq!((outbox.bytes, outbox.due_close()), (0, Some(Close::TooSlow)));
    assert_eq!(offer(&mut outbox, 4, 0), Offered::Closed);
    let mut heavy = Outbox::of_alarms(OutboxLimits { frames: 100, bytes: 10 }, Arc::default());
    heavy.reached_inbox_end();
    let id = AlarmId::from_stored(1);
    assert_eq!(
        heavy.offer_alarm(
            id,
            &Rc::new(Frame::new(FrameKind::Alarm(id), Bytes::from_static(&[0; 11]))),
            AlarmCursor::START
        ),
        Offered::Overflow
    );
}

#[test]
fn an_overflow_in_a_room_closes_the_session_and_keeps_the_messages_to_mark() {
    let mut outbox = Outbox::of_room(OutboxLimits { frames: 2, bytes: 1 << 20 }, Arc::default());
    outbox.control(Bytes::from("info,"));
    assert_eq!(offer_message(&mut outbox, 7), Offered::Queued);
    assert!(outbox.take_messages_to_mark().is_empty());
    assert_eq!(taken(&mut outbox), "info,7,");
    assert_eq!(outbox.take_messages_to_mark(), [message(7)]);
    outbox.requeue_unmarked(vec![message(7)]);
    outbox.resync();
    assert!(
        [8, 9].into_iter().all(|id| offer_message(&mut outbox, id) == Offered::Queued),
        "a resync does nothing in a room"
    );
    assert_eq!(offer_message(&mut outbox, 10), Offered::Overflow);
    assert_eq!((outbox.due_close(), outbox.take_messages_to_mark()), (Some(Close::TooSlow), vec![message(7)]));
}

#[test]
fn a_client_that_takes_nothing_is_closed_and_one_that_takes_something_is_not() {
    let mut outbox = outbox(10);
    outbox.reached_inbox_end();
    offer(&mut outbox, 1, 0);
    assert!(!outbox.sweep(2) && !outbox.sweep(2));
    assert!(outbox.take().is_some());
    offer(&mut outbox, 2, 0);
    assert!(!outbox.sweep(2) && !outbox.sweep(2));
    assert!(outbox.sweep(2));
    assert_eq!((outbox.bytes, outbox.due_close()), (0, Some(Close::TooSlow)));
    assert!(!outbox.sweep(2), "once");
}

#[test]
fn a_live_alarm_during_a_read_of_the_store_is_sent_in_order() {
    let mut outbox = outbox(10);
    outbox.begin_after(AlarmCursor::from_number(10));
    assert_eq!(begin_reading(&mut outbox), 10);
    assert_eq!(offer(&mut outbox, 12, 0), Offered::Noted);
    outbox.put_page(page([11]));
    outbox.reached_inbox_end();
    assert!(outbox.wants_catch_up(), "12 was noted after the read began");
    assert_eq!(begin_reading(&mut outbox), 11);
    outbox.put_page(page([12]));
    outbox.reached_inbox_end();
    assert!(!outbox.wants_catch_up());
    assert_eq!(offer(&mut outbox, 12, 0), Offered::Stale);
    assert_eq!(offer(&mut outbox, 13, 0), Offered::Queued);
    assert_eq!(taken(&mut outbox), "11,12,13,");
}

#[test]
fn a_noted_alarm_that_the_store_does_not_return_ends_the_catch_up() {
    let mut outbox = outbox(10);
    offer(&mut outbox, 5, 0);
    begin_reading(&mut outbox);
    outbox.reached_inbox_end();
    assert!(!outbox.wants_catch_up());
}

proptest! {
    /// Commits add alarms to the store. The hub offers each one later, in order, or loses it and starts a resync. In
    /// any interleaving with reads of the store, the client gets every alarm once and in order.
    #[test]
    fn every_alarm_is_sent_once_and_in_order(steps in prop::collection::vec(0u8..6, 1..300)) {
        let mut outbox = outbox(10_000);
        let (mut stored, mut offered) = (0i64, 0i64);
        let mut read: Option<(i64, i64)> = None;
        let mut sent = String::new();
        for step in steps {
            match step {
                0 | 1 => stored += 1,
                2 if offered < stored => {
                    offered += 1;
                    offer(&mut outbox, offered, 0);
                }
                3 if offered < stored => {
                    offered += 1;
                    outbox.resync();
                }
                4 if read.is_none() && outbox.wants_catch_up() => {
                    read = Some((begin_reading(&mut outbox), stored));
                }
                5 => if let Some((from, snapshot)) = read.take() {
                    let upto = snapshot.min(from + 3);
                    outbox.put_page(page(from + 1..=upto));
                    if upto == snapshot {
                        outbox.reached_inbox_end();
                    }
                },
                _ => sent += &taken(&mut outbox),
            }
        }
        // Finally everything is offered and read.
        if let Some((from, snapshot)) = read.take() {
            outbox.put_page(page(from + 1..=snapshot));
            outbox.reached_inbox_end();
        }
        while offered < stored {
            offered += 1;
            offer(&mut outbox, offered, 0);
        }
        while outbox.wants_catch_up() {
            let from = begin_reading(&mut outbox);
            outbox.put_page(page(from + 1..=stored));
            outbox.reached_inbox_end();
        }
        sent += &taken(&mut outbox);
        let all: String = (1..=stored).map(|id| format!("{id},")).collect();
        prop_assert_eq!(sent, all);
    }

    /// Two nodes commit alarms, and each node's alarms arrive over a channel of their own, late or never. Occasional
    /// inbox checks bring the lost ones. The client gets every alarm once and in order.
    #[test]
    fn alarms_of_two_nodes_are_sent_in_order_whichever_arrives_first(steps in prop::collection::vec((0u8..9, any::<bool>()), 1..300)) {
        let mut outbox = outbox(10_000);
        let mut stored = 0i64;
        let mut channels: [VecDeque<i64>; 2] = Default::default();
        let mut read: Option<(i64, i64)> = None;
        let mut sent = String::new();
        for (step, side) in steps {
            let channel = &mut channels[usize::from(side)];
            match step {
                0 | 1 => {
                    stored += 1;
                    channel.push_back(stored);
                }
                2 | 3 => if let Some(id) = channel.pop_front() {
                    offer(&mut outbox, id, id - 1);
                },
                4 => {
                    channel.pop_front();
                }
                5 => {
                    catch_up_to(&mut outbox, stored);
                }
                6 if read.is_none() && outbox.wants_catch_up() => {
                    read = Some((begin_reading(&mut outbox), stored));
                }
                7 => if let Some((from, snapshot)) = read.take() {
                    let upto = snapshot.min(from + 3);
                    outbox.put_page(page(from + 1..=upto));
                    if upto == snapshot {
                        outbox.reached_inbox_end();
                    }
                },
                _ => sent += &taken(&mut outbox),
            }
        }
        if let Some((from, snapshot)) = read.take() {
            outbox.put_page(page(from + 1..=snapshot));
            outbox.reached_inbox_end();
        }
        for rest in [true, false] {
            if rest {
                catch_up_to(&mut outbox, stored);
            }
            while outbox.wants_catch_up() {
                let from = begin_reading(&mut outbox);
                outbox.put_page(page(from + 1..=stored));
                outbox.reached_inbox_end();
                catch_up_to(&mut outbox, stored);
            }
        }
        sent += &taken(&mut outbox);
        let all: String = (1..=stored).map(|id| format!("{id},")).collect();
        prop_assert_eq!(sent, all);
        prop_assert!(!catch_up_to(&mut outbox, stored), "nothing is read twice");
    }
}

#[test]
fn an_alarm_not_for_the_session_is_read_for_only_once() {
    let mut outbox = outbox(10);
    outbox.reached_inbox_end();
    assert_eq!(offer(&mut outbox, 5, 4), Offered::Noted, "4 has not arrived");
    begin_reading(&mut outbox);
    outbox.put_page(page([5]));
    outbox.reached_inbox_end();
    assert!(catch_up_to(&mut outbox, 7), "7 is muted, which the outbox does not know");
    begin_reading(&mut outbox);
    outbox.reached_inbox_end();
    assert!(!catch_up_to(&mut outbox, 7));
    assert_eq!(offer(&mut outbox, 8, 7), Offered::Queued);
    assert_eq!(taken(&mut outbox), "5,8,");
}
