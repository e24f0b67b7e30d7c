//! What an outbox must hold, whatever comes in which order: no gap, no double, no disorder, and bounded.

use super::*;
use proptest::prelude::*;

fn outbox(frames: usize) -> Outbox {
    Outbox::of_alarms(OutboxLimits { frames, bytes: 1 << 20 }, Arc::default())
}

fn frame(alarm: i64) -> Rc<Frame> {
    Rc::new(Frame::new(alarm, Bytes::from(format!("{alarm},"))))
}

fn page(ids: impl IntoIterator<Item = i64>) -> Vec<Frame> {
    ids.into_iter().map(|alarm| Frame::new(alarm, Bytes::from(format!("{alarm},")))).collect()
}

fn taken(outbox: &mut Outbox) -> String {
    let mut all = Vec::new();
    while let Some(chunk) = outbox.take() {
        all.extend_from_slice(&chunk.bytes());
    }
    String::from_utf8(all).unwrap()
}

#[test]
fn waiting_frames_leave_in_one_piece() {
    let mut outbox = outbox(10);
    outbox.end_of_list();
    for id in 1..=3 {
        assert_eq!(outbox.offer(&frame(id), 0), Offered::Queued);
    }
    assert_eq!(outbox.take().map(Chunk::bytes), Some(Bytes::from("1,2,3,")));
    assert_eq!((outbox.taken(), outbox.bytes), (3, 0));
}

#[test]
fn what_overflows_ends_the_session_and_frees_the_memory() {
    let mut outbox = outbox(2);
    outbox.end_of_list();
    assert_eq!(outbox.offer(&frame(1), 0), Offered::Queued);
    assert_eq!(outbox.offer(&frame(2), 0), Offered::Queued);
    assert_eq!(outbox.offer(&frame(3), 0), Offered::Overflow);
    assert_eq!((outbox.bytes, outbox.due_close()), (0, Some(Close::TooSlow)));
    assert_eq!(outbox.offer(&frame(4), 0), Offered::Closed);
    let mut heavy = Outbox::of_alarms(OutboxLimits { frames: 100, bytes: 10 }, Arc::default());
    heavy.end_of_list();
    assert_eq!(heavy.offer(&Rc::new(Frame::new(1, Bytes::from_static(&[0; 11]))), 0), Offered::Overflow);
}

#[test]
fn in_a_room_what_overflows_ends_the_session_and_what_was_taken_is_known() {
    let mut outbox = Outbox::of_room(OutboxLimits { frames: 2, bytes: 1 << 20 }, Arc::default());
    outbox.control(Bytes::from("info,"));
    assert_eq!(outbox.hear(&frame(7)), Offered::Queued);
    assert!(outbox.take_messages().is_empty());
    assert_eq!(taken(&mut outbox), "info,7,");
    assert_eq!(outbox.take_messages(), [7]);
    outbox.not_after_all(vec![7]);
    outbox.resync();
    assert!([8, 9].into_iter().all(|id| outbox.hear(&frame(id)) == Offered::Queued), "there is nothing to read");
    assert_eq!(outbox.hear(&frame(10)), Offered::Overflow);
    assert_eq!((outbox.due_close(), outbox.take_messages()), (Some(Close::TooSlow), vec![7]));
}

#[test]
fn a_client_that_takes_nothing_is_let_go_and_one_that_takes_something_is_not() {
    let mut outbox = outbox(10);
    outbox.end_of_list();
    outbox.offer(&frame(1), 0);
    assert!(!outbox.sweep(2) && !outbox.sweep(2));
    assert!(outbox.take().is_some());
    outbox.offer(&frame(2), 0);
    assert!(!outbox.sweep(2) && !outbox.sweep(2));
    assert!(outbox.sweep(2));
    assert_eq!((outbox.bytes, outbox.due_close()), (0, Some(Close::TooSlow)));
    assert!(!outbox.sweep(2), "once");
}

#[test]
fn what_comes_live_while_the_store_is_read_is_not_sent_before_its_turn() {
    let mut outbox = outbox(10);
    outbox.begin_after(10);
    assert_eq!(outbox.begin_reading(), 10);
    assert_eq!(outbox.offer(&frame(12), 0), Offered::Noted);
    outbox.put_page(page([11]));
    outbox.end_of_list();
    assert!(outbox.wants_catch_up(), "12 was noted after the reading began");
    assert_eq!(outbox.begin_reading(), 11);
    outbox.put_page(page([12]));
    outbox.end_of_list();
    assert!(!outbox.wants_catch_up());
    assert_eq!(outbox.offer(&frame(12), 0), Offered::Stale);
    assert_eq!(outbox.offer(&frame(13), 0), Offered::Queued);
    assert_eq!(taken(&mut outbox), "11,12,13,");
}

#[test]
fn a_note_whose_alarm_is_gone_does_not_keep_the_session_reading() {
    let mut outbox = outbox(10);
    outbox.offer(&frame(5), 0);
    outbox.begin_reading();
    outbox.end_of_list();
    assert!(!outbox.wants_catch_up());
}

proptest! {
    /// The store grows by commits; the hub tells each later, in order, or loses it and says so. Whatever the
    /// interleaving with readings, the client gets every alarm once, in order.
    #[test]
    fn no_gap_no_double_no_disorder(steps in prop::collection::vec(0u8..6, 1..300)) {
        let mut outbox = outbox(10_000);
        let (mut stored, mut told) = (0i64, 0i64);
        let mut reading: Option<(i64, i64)> = None;
        let mut sent = String::new();
        for step in steps {
            match step {
                0 | 1 => stored += 1,
                2 if told < stored => {
                    told += 1;
                    outbox.offer(&frame(told), 0);
                }
                3 if told < stored => {
                    told += 1;
                    outbox.resync();
                }
                4 if reading.is_none() && outbox.wants_catch_up() => {
                    reading = Some((outbox.begin_reading(), stored));
                }
                5 => if let Some((from, snapshot)) = reading.take() {
                    let upto = snapshot.min(from + 3);
                    outbox.put_page(page(from + 1..=upto));
                    if upto == snapshot {
                        outbox.end_of_list();
                    }
                },
                _ => sent += &taken(&mut outbox),
            }
        }
        // The world comes to rest: everything is told and read.
        if let Some((from, snapshot)) = reading.take() {
            outbox.put_page(page(from + 1..=snapshot));
            outbox.end_of_list();
        }
        while told < stored {
            told += 1;
            outbox.offer(&frame(told), 0);
        }
        while outbox.wants_catch_up() {
            let from = outbox.begin_reading();
            outbox.put_page(page(from + 1..=stored));
            outbox.end_of_list();
        }
        sent += &taken(&mut outbox);
        let all: String = (1..=stored).map(|id| format!("{id},")).collect();
        prop_assert_eq!(sent, all);
    }

    /// Two nodes write, and what each of them tells comes by a way of its own, later or never. An end of the inbox that
    /// is looked up now and then brings what was lost. The client gets every alarm once, in order.
    #[test]
    fn alarms_of_two_nodes_come_in_order_whichever_is_heard_first(steps in prop::collection::vec((0u8..9, any::<bool>()), 1..300)) {
        let mut outbox = outbox(10_000);
        let mut stored = 0i64;
        let mut ways: [VecDeque<i64>; 2] = Default::default();
        let mut reading: Option<(i64, i64)> = None;
        let mut sent = String::new();
        for (step, side) in steps {
            let way = &mut ways[usize::from(side)];
            match step {
                0 | 1 => {
                    stored += 1;
                    way.push_back(stored);
                }
                2 | 3 => if let Some(id) = way.pop_front() {
                    outbox.offer(&frame(id), id - 1);
                },
                4 => {
                    way.pop_front();
                }
                5 => {
                    outbox.inbox_ends_with(stored);
                }
                6 if reading.is_none() && outbox.wants_catch_up() => {
                    reading = Some((outbox.begin_reading(), stored));
                }
                7 => if let Some((from, snapshot)) = reading.take() {
                    let upto = snapshot.min(from + 3);
                    outbox.put_page(page(from + 1..=upto));
                    if upto == snapshot {
                        outbox.end_of_list();
                    }
                },
                _ => sent += &taken(&mut outbox),
            }
        }
        if let Some((from, snapshot)) = reading.take() {
            outbox.put_page(page(from + 1..=snapshot));
            outbox.end_of_list();
        }
        for rest in [true, false] {
            if rest {
                outbox.inbox_ends_with(stored);
            }
            while outbox.wants_catch_up() {
                let from = outbox.begin_reading();
                outbox.put_page(page(from + 1..=stored));
                outbox.end_of_list();
                outbox.inbox_ends_with(stored);
            }
        }
        sent += &taken(&mut outbox);
        let all: String = (1..=stored).map(|id| format!("{id},")).collect();
        prop_assert_eq!(sent, all);
        prop_assert!(!outbox.inbox_ends_with(stored), "nothing is read twice");
    }
}

#[test]
fn what_is_not_to_be_sent_is_looked_for_once() {
    let mut outbox = outbox(10);
    outbox.end_of_list();
    assert_eq!(outbox.offer(&frame(5), 4), Offered::Noted, "4 has not been heard of");
    outbox.begin_reading();
    outbox.put_page(page([5]));
    outbox.end_of_list();
    assert!(outbox.inbox_ends_with(7), "7 is muted, which nobody here knows");
    outbox.begin_reading();
    outbox.end_of_list();
    assert!(!outbox.inbox_ends_with(7));
    assert_eq!(outbox.offer(&frame(8), 7), Offered::Queued);
    assert_eq!(taken(&mut outbox), "5,8,");
}
