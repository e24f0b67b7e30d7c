//! Reads of goods by their next deadline, for the auction clock and the health endpoint.

use std::time::Instant;

use diesel::{dsl::min, prelude::*};

use crate::{
    domain::{ENDING_SOON_LEAD_MS, GoodsState, Phase, Timestamp},
    outage::Outage,
    store::{
        Store, StoreError,
        rows::{StateRow, phase_code},
        schema,
    },
};

/// Limits the log lines about unreadable rows, because every read finds the same rows again.
static UNREADABLE_ROWS: Outage = Outage::new();

/// Scheduled goods that start by `at`.
#[diesel::dsl::auto_type]
fn starting_by(at: Timestamp) -> _ {
    let due = schema::goods::starts_at.le::<i64>(at.micros());
    schema::goods::table.filter(schema::goods::phase.eq::<i16>(phase_code(Phase::Scheduled)).and(due))
}

/// Live goods that end by `at`.
#[diesel::dsl::auto_type]
fn ending_by(at: Timestamp) -> _ {
    let due = schema::goods::ends_at.le::<i64>(at.micros());
    schema::goods::table.filter(schema::goods::phase.eq::<i16>(phase_code(Phase::Live)).and(due))
}

impl Store {
    /// Goods with a deadline up to `horizon`: at most `limit` scheduled ones, earliest start first, and at most `limit`
    /// live ones, earliest end first. Also the time up to which this list is complete: `horizon`, or less if a limit
    /// was reached.
    pub async fn next_deadlines(
        &self,
        horizon: Timestamp,
        limit: i64,
    ) -> Result<(Vec<GoodsState>, Timestamp), StoreError> {
        self.read(move |conn| {
            use schema::goods::dsl;
            let scheduled = starting_by(horizon).order(dsl::starts_at).limit(limit);
            // The deadline of `ending_soon` comes this long before the end.
            let live = ending_by(horizon.plus_ms(ENDING_SOON_LEAD_MS)).order(dsl::ends_at).limit(limit);
            let scheduled: Vec<StateRow> = scheduled.select(StateRow::as_select()).load(conn)?;
            let live: Vec<StateRow> = live.select(StateRow::as_select()).load(conn)?;
            let mut complete = horizon;
            let found = scheduled.len() + live.len();
            let mut goods = Vec::with_capacity(found);
            for (rows, lead_ms) in [(scheduled, 0), (live, ENDING_SOON_LEAD_MS)] {
                let full = rows.len() as i64 == limit;
                let before = goods.len();
                for row in rows {
                    match GoodsState::try_from(row) {
                        Ok(state) => goods.push(state),
                        // One unreadable row must not stop the clock for all others (fault 3).
                        Err(error) => {
                            if let Some(failing) = UNREADABLE_ROWS.record_failure(Instant::now()) {
                                let (failures, lasted_s) = (failing.failures, failing.lasted_s());
                                log::error!(failures, lasted_s, error:%; "the auction clock skips an unreadable goods row");
                            }
                        }
                    }
                }
                if let (true, Some(last)) = (full, goods[before..].last()) {
                    let reached = if last.phase == Phase::Live { last.ends_at } else { last.starts_at };
                    complete = complete.min(reached.plus_ms(-lead_ms));
                }
            }
            if goods.len() == found
                && let Some(over) = UNREADABLE_ROWS.record_success(Instant::now)
            {
                let (failures, lasted_s) = (over.failures, over.lasted_s());
                log::info!(failures, lasted_s; "the auction clock skips no goods row any more");
            }
            Ok((goods, complete))
        })
        .await
    }

    /// The oldest start or end that is due and not done yet; `None` if there is none. The health endpoint also learns
    /// from it whether the database answers.
    pub async fn oldest_overdue(&self, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        self.read(move |conn| {
            use schema::goods::dsl;
            let start: Option<Timestamp> = starting_by(now).select(min(dsl::starts_at)).get_result(conn)?;
            let end: Option<Timestamp> = ending_by(now).select(min(dsl::ends_at)).get_result(conn)?;
            Ok(start.into_iter().chain(end).min())
        })
        .await
    }
}
