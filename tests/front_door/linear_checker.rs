//! Tests of the checker itself: histories made by hand that it must accept or reject, and many small random ones that
//! it must judge like a search over all orders.

use std::{collections::HashMap, time::Duration};

use proptest::prelude::*;

use crate::support::linear::{Auction, Call, Outcome, Stored, explain};
use Outcome::*;

const SELLER: i64 = 1;
const AUCTION: Auction = Auction { seller: SELLER, start_price: 100, min_increment: 10 };

fn call(user: i64, price: i64, began: u64, ended: u64, outcome: Outcome) -> Call {
    let [began, ended] = [began, ended].map(Duration::from_secs);
    Call { user, price, key: None, began, ended, outcome, replayed: false }
}

fn keyed(key: u32, call: Call) -> Call {
    Call { key: Some(key), ..call }
}

fn again(key: u32, call: Call) -> Call {
    Call { key: Some(key), replayed: true, ..call }
}

fn accepted(seq: usize) -> Outcome {
    Accepted { seq }
}

fn too_low(high: i64) -> Outcome {
    TooLow { high: Some(high), minimum: high + 10 }
}

fn saw(seq: usize, high: i64) -> Outcome {
    Saw { seq, high: Some(high) }
}

/// The stored history of these users and prices.
fn stored(bids: &[(i64, i64)]) -> Vec<Stored> {
    (1..).zip(bids).map(|(seq, (user, price))| Stored { seq, user: *user, price: *price }).collect()
}

const TWO: &[(i64, i64)] = &[(2, 100), (3, 200)];

#[track_caller]
fn explained(calls: &[Call], history: &[(i64, i64)]) {
    assert_eq!(explain(&AUCTION, calls, &stored(history)), Ok(()));
}

#[track_caller]
fn rejected(calls: &[Call], history: &[(i64, i64)], why: &str) {
    let said = explain(&AUCTION, calls, &stored(history)).expect_err("it contradicts itself");
    assert!(said.contains(why), "{said}");
}

fn two_bids() -> Vec<Call> {
    vec![call(2, 100, 0, 10, accepted(1)), call(3, 200, 0, 10, accepted(2))]
}

fn two_bids_and(more: Call) -> Vec<Call> {
    [two_bids(), vec![more]].concat()
}

#[test]
fn a_history_that_one_order_explains_is_accepted() {
    explained(&[], &[]);
    explained(&two_bids(), TWO);
    // Each refusal is at the price of some moment within its own time.
    explained(&two_bids_and(call(4, 99, 0, 10, TooLow { high: None, minimum: 100 })), TWO);
    explained(&two_bids_and(call(4, 109, 5, 6, too_low(100))), TWO);
    explained(&two_bids_and(call(4, 109, 5, 6, too_low(200))), TWO);
    explained(&two_bids_and(call(4, 109, 20, 21, too_low(200))), TWO);
    explained(&two_bids_and(call(4, 1, 0, 1, NotStarted)), TWO);
    explained(&two_bids_and(call(4, 999, 9, 20, Ended)), TWO);
    explained(&two_bids_and(call(SELLER, 999, 3, 4, SellerCannotBid)), TWO);
    explained(&two_bids_and(call(4, 999, 3, 4, NotStored)), TWO);
    explained(&two_bids_and(call(4, 0, 5, 6, saw(1, 100))), TWO);
}

#[test]
fn a_bid_of_unknown_outcome_may_be_stored_or_not_even_after_its_client_gave_up() {
    explained(&two_bids_and(call(4, 300, 20, 21, Unknown)), TWO);
    explained(&two_bids_and(call(4, 300, 20, 21, Unknown)), &[(2, 100), (3, 200), (4, 300)]);
    let late = [call(2, 100, 0, 1, Unknown), call(3, 90, 5, 6, TooLow { high: None, minimum: 100 })];
    explained(&late, &[(2, 100)]);
    // The second of two equal bids, because the first would have come too early for a refusal.
    let two = [call(2, 100, 0, 1, Unknown), call(2, 100, 9, 9, Unknown)];
    explained(&two, &[(2, 100)]);
}

#[test]
fn a_lower_bid_after_a_higher_one_is_rejected() {
    let calls = [call(2, 200, 0, 1, accepted(1)), call(3, 150, 2, 3, accepted(2))];
    rejected(&calls, &[(2, 200), (3, 150)], "should have been refused");
    rejected(&[call(2, 99, 0, 1, accepted(1))], &[(2, 99)], "should have been refused");
    let calls = [call(2, 100, 0, 1, accepted(1)), call(3, 109, 2, 3, accepted(2))];
    rejected(&calls, &[(2, 100), (3, 109)], "should have been refused");
    rejected(&[call(SELLER, 100, 0, 1, accepted(1))], &[(SELLER, 100)], "should have been refused");
}

#[test]
fn a_gap_is_rejected() {
    let history = [Stored { seq: 1, user: 2, price: 100 }, Stored { seq: 3, user: 3, price: 200 }];
    let calls = [call(2, 100, 0, 10, accepted(1)), call(3, 200, 0, 10, accepted(3))];
    assert!(explain(&AUCTION, &calls, &history).unwrap_err().contains("a gap"));
}

#[test]
fn lost_changed_and_invented_bids_are_rejected() {
    rejected(&two_bids(), &[(2, 100)], "is lost");
    rejected(&two_bids(), &[(2, 100), (4, 200)], "is stored as");
    rejected(&two_bids(), &[(3, 200)], "is stored as");
    rejected(&two_bids(), &[(2, 100), (3, 200), (4, 300)], "nobody made");
    let not_stored = two_bids_and(call(4, 300, 20, 21, NotStored));
    rejected(&not_stored, &[(2, 100), (3, 200), (4, 300)], "nobody made");
    let twice = two_bids_and(call(3, 200, 3, 4, accepted(2)));
    rejected(&twice, TWO, "two calls were the one bid");
}

#[test]
fn a_refusal_at_a_price_of_another_time_is_rejected() {
    rejected(&two_bids_and(call(4, 100, 3, 4, too_low(150))), TWO, "was never the price");
    rejected(&two_bids_and(call(4, 50, 11, 12, too_low(100))), TWO, "was over before");
    let first_at_5 = [call(2, 100, 5, 6, accepted(1))];
    let too_early = |call| [first_at_5.to_vec(), vec![call]].concat();
    rejected(&too_early(call(4, 50, 0, 4, too_low(100))), &[(2, 100)], "was over before");
    let none = TooLow { high: None, minimum: 100 };
    rejected(&too_early(call(4, 50, 7, 8, none)), &[(2, 100)], "was over before");
    // And one that the bid rule would not have refused, or not like this.
    rejected(&two_bids_and(call(4, 110, 0, 10, too_low(100))), TWO, "against the rule");
    let wrong_minimum = TooLow { high: Some(100), minimum: 111 };
    rejected(&two_bids_and(call(4, 1, 0, 10, wrong_minimum)), TWO, "against the rule");
    // The price fell between two refusals.
    let fell = [call(4, 1, 3, 4, too_low(200)), call(5, 1, 5, 6, too_low(100))];
    rejected(&[two_bids(), fell.to_vec()].concat(), TWO, "was over before");
}

#[test]
fn an_order_against_real_time_is_rejected() {
    let calls = [call(2, 100, 5, 6, accepted(1)), call(3, 200, 0, 4, accepted(2))];
    rejected(&calls, TWO, "was over before");
    rejected(&two_bids_and(call(4, 0, 11, 12, saw(1, 100))), TWO, "was over before");
    rejected(&two_bids_and(call(4, 0, 3, 4, saw(1, 200))), TWO, "was never so");
    rejected(&two_bids_and(call(4, 1, 11, 12, NotStarted)), TWO, "was over before");
    let ended_first = [call(4, 999, 0, 1, Ended), call(2, 100, 2, 3, accepted(1))];
    rejected(&ended_first, &[(2, 100)], "was over before");
    // The stored unknown bid was only made after the bid above it.
    let calls = [call(3, 200, 0, 4, accepted(2)), call(2, 100, 5, 6, Unknown)];
    rejected(&calls, TWO, "was over before");
    rejected(&two_bids_and(call(4, 999, 3, 4, SellerCannotBid)), TWO, "not the seller's");
}

#[test]
fn answers_under_one_key_must_be_the_same() {
    let first = keyed(7, call(2, 100, 0, 2, accepted(1)));
    let one = &[(2, 100)];
    explained(&[first.clone(), again(7, call(2, 100, 1, 3, accepted(1)))], one);
    explained(&[first.clone(), keyed(7, call(2, 300, 1, 3, KeyReused))], one);
    explained(&[first.clone(), again(7, call(2, 100, 0, 1, accepted(1)))], one);
    let unanswered = keyed(7, call(2, 100, 0, 2, Unknown));
    explained(&[unanswered.clone(), again(7, call(2, 100, 1, 3, accepted(1)))], one);

    let later = keyed(7, call(2, 100, 4, 5, accepted(1)));
    rejected(&[later.clone(), again(7, call(2, 100, 0, 3, accepted(1)))], one, "before its first answer");
    rejected(&[later, keyed(7, call(2, 300, 0, 3, KeyReused))], one, "before its first answer");
    rejected(&[first.clone(), again(8, call(2, 100, 1, 3, accepted(1)))], one, "nothing went before");
    rejected(&[first.clone(), keyed(7, call(2, 100, 1, 3, KeyReused))], one, "after");
    rejected(&[first.clone(), keyed(7, call(2, 50, 4, 5, too_low(100)))], one, "judged twice");
    rejected(&[unanswered, again(7, call(2, 100, 4, 5, too_low(100)))], one, "nobody made");
    let changed = [first, again(7, call(2, 99, 4, 5, too_low(100)))];
    rejected(&changed, one, "after");
}

/// The contract as a state machine that handles one call after the other, which `explain` never does.
#[derive(Clone, Default)]
struct Machine {
    phase: u8,
    bids: Vec<(i64, i64)>,
    kept: HashMap<(i64, u32), (i64, Outcome)>,
}

impl Machine {
    /// Its answer, and whether that repeats a first answer.
    fn answer(&mut self, call: &Call) -> (Outcome, bool) {
        if let Saw { .. } = call.outcome {
            return (Saw { seq: self.bids.len(), high: self.bids.last().map(|bid| bid.1) }, false);
        }
        let key = call.key.map(|key| (call.user, key));
        match key.and_then(|key| self.kept.get(&key)) {
            Some((price, first)) if *price == call.price => return (*first, true),
            Some(_) => return (KeyReused, false),
            None => {}
        }
        let outcome = self.judge(call);
        if let Some(key) = key {
            self.kept.insert(key, (call.price, outcome));
        }
        (outcome, false)
    }

    fn judge(&mut self, call: &Call) -> Outcome {
        let high = self.bids.last().map(|bid| bid.1);
        let minimum = high.map_or(AUCTION.start_price, |high| high + AUCTION.min_increment);
        match self.phase {
            _ if call.user == SELLER => SellerCannotBid,
            0 => NotStarted,
            2 => Ended,
            _ if call.price < minimum => TooLow { high, minimum },
            _ => {
                self.bids.push((call.user, call.price));
                Accepted { seq: self.bids.len() }
            }
        }
    }

    /// Searches all orders of the remaining calls, and all moments of the start and the end.
    fn some_order(&self, calls: &[Call], left: u32, history: &[(i64, i64)]) -> bool {
        let is_left = |at: &usize| left & (1 << at) != 0;
        let received = |call: &Call| ![Unknown, NotStored].contains(&call.outcome);
        if self.bids == history && (0..calls.len()).filter(is_left).all(|at| !received(&calls[at])) {
            return true;
        }
        // No call goes before one that had ended when it began.
        let first_end =
            (0..calls.len()).filter(is_left).filter(|at| received(&calls[*at])).map(|at| calls[at].ended).min();
        let steps = (0..calls.len()).filter(is_left).any(|at| {
            let call = &calls[at];
            if call.outcome == NotStored || first_end.is_some_and(|end| call.began > end) {
                return false;
            }
            let mut next = self.clone();
            let answer = next.answer(call);
            let fits = call.outcome == Unknown || answer == (call.outcome, call.replayed);
            fits && next.some_order(calls, left & !(1 << at), history)
        });
        let phase = |phase| Machine { phase, ..self.clone() };
        steps || self.phase < 2 && phase(self.phase + 1).some_order(calls, left, history)
    }
}

/// A random call: user, price, key, beginning, length, the moment of its effect, and what is done to it.
type RandomCall = (i64, i64, Option<u32>, u64, u64, u64, u8);

/// A correct run of the machine, before something may be changed in it.
fn run(random_calls: &[RandomCall], starts: u64, ends: u64) -> (Vec<Call>, Vec<(i64, i64)>) {
    let mut machine = Machine::default();
    let mut calls: Vec<_> = random_calls
        .iter()
        .map(|(user, price, key, began, lasts, effect, what)| {
            let outcome = if *what == 9 { saw(0, 0) } else { NotStored };
            // A key has one price per user, as `explain` requires.
            let key = key.filter(|_| *what != 9);
            let price = if key.is_some() { 100 + user * 10 } else { *price };
            (began + effect % (lasts + 1), Call { key, ..call(*user, price, *began, began + lasts, outcome) }, *what)
        })
        .collect();
    calls.sort_by_key(|(effect, ..)| *effect);
    let mut done = Vec::new();
    for (effect, mut call, what) in calls {
        machine.phase = u8::from(effect >= starts) + u8::from(effect >= ends);
        match what {
            // The client gave up before the call had an effect, or after.
            0 => call.outcome = Unknown,
            1 => {
                machine.answer(&call);
                call.outcome = Unknown;
            }
            _ => (call.outcome, call.replayed) = machine.answer(&call),
        }
        done.push(call);
    }
    (done, machine.bids)
}

/// Changes something that then is wrong.
fn spoil(calls: &mut [Call], history: &mut Vec<(i64, i64)>, (at, what): (usize, u8)) {
    let Some(at) = at.checked_rem(calls.len()) else { return };
    match what {
        0 => calls[at].began = calls[at].ended,
        1 => calls[at].ended = calls[at].began,
        2 => drop(history.pop()),
        3 => {
            let moved = Duration::from_secs(4);
            calls[at].began += moved;
            calls[at].ended += moved;
        }
        4 => {
            let other = &calls[(at + 1) % calls.len()];
            let key = calls[at].key.filter(|_| !matches!(other.outcome, Saw { .. }));
            calls[at] = Call { outcome: other.outcome, replayed: other.replayed, key, ..calls[at].clone() };
        }
        5 => calls[at] = Call { outcome: NotStored, replayed: false, ..calls[at].clone() },
        6 => {
            calls[at].began = calls[at].began.saturating_sub(Duration::from_secs(4));
            calls[at].ended = calls[at].ended.saturating_sub(Duration::from_secs(4)).max(calls[at].began);
        }
        _ => {}
    }
}

fn random_calls() -> impl Strategy<Value = Vec<RandomCall>> {
    let key = prop::option::weighted(0.3, 0u32..2);
    prop::collection::vec((1i64..5, 9i64..16, key, 0u64..12, 0u64..6, 0u64..6, 0u8..10), 0..7)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3000) })]

    #[test]
    fn the_checker_agrees_with_a_search_over_all_orders(
        random_calls in random_calls(), starts in 0u64..4, lasts in 4u64..20, spoilt in (0usize..7, 0u8..12),
    ) {
        let random_calls: Vec<_> = random_calls.into_iter().map(|mut t| { t.1 *= 10; t }).collect();
        let (mut calls, mut history) = run(&random_calls, starts, starts + lasts);
        prop_assert_eq!(explain(&AUCTION, &calls, &stored(&history)), Ok(()), "a good run: {:?}", calls);
        spoil(&mut calls, &mut history, spoilt);
        let said = explain(&AUCTION, &calls, &stored(&history));
        let all = (1 << calls.len()) - 1;
        prop_assert_eq!(said.is_ok(), Machine::default().some_order(&calls, all, &history), "{:?} {:?}", said, calls);
    }
}
