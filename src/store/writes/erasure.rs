//! The erasure of a user. It begins with one write that takes their name and makes them inactive. The rest goes in small
//! portions, so that no bid waits long, and is a durable job: a row of `erasures`. What was under way at the beginning
//! may still be written, so the job goes over everything once more a little later, and then ends.

use std::time::Duration;

use diesel::{
    connection::SimpleConnection,
    delete,
    dsl::sql,
    insert_into,
    prelude::*,
    sql_types::{BigInt, Nullable},
    update,
};

use super::{
    audit::{AdminAction, AdminWrite, AuditTarget},
    line_removal,
    prune::Pruned,
    users,
};
use crate::{
    domain::{AlarmKind, GoodsId, LineId, User, UserId},
    store::{Ledger, StoreError, Tx, Write, WriteError, engine::DbConn, rows::UserRow, schema},
};

/// Rows of each kind that one portion takes at most.
const PORTION_LIMIT: i64 = 100;
/// How long the write of one portion may take.
const PORTION_TIMEOUT: Duration = Duration::from_secs(5);
/// Time between two portions, which leaves the ledger to others.
const PORTION_PAUSE: Duration = Duration::from_millis(10);

/// Makes a user inactive and nameless, and begins to erase everything else.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BeginErasure(pub UserId);

/// Outcome of a [`BeginErasure`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErasureBegun {
    Yes,
    UnknownUser,
}

impl Write for BeginErasure {
    type Out = ErasureBegun;

    fn run(&self, tx: &mut Tx<'_>) -> Result<ErasureBegun, StoreError> {
        use schema::erasures::dsl;
        let Some(mut user) = UserRow::find(tx.conn, self.0)? else { return Ok(ErasureBegun::UnknownUser) };
        user.erase(tx.now());
        overwriting(tx, |tx| users::store(tx, &user, false))?;
        delete(dsl::erasures.filter(dsl::user_id.eq(self.0.get()))).execute(tx.conn)?;
        insert_into(dsl::erasures)
            .values((dsl::user_id.eq(self.0.get()), dsl::begun_at.eq(tx.now().micros())))
            .execute(tx.conn)?;
        Ok(ErasureBegun::Yes)
    }
}

impl AdminWrite for BeginErasure {
    fn action(&self, out: &ErasureBegun) -> Option<AdminAction> {
        let target = AuditTarget::User(self.0);
        (*out == ErasureBegun::Yes).then(|| AdminAction { name: "user.erase", target, fields: Vec::new() })
    }
}

/// Which run over a user's rows it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErasureRun {
    /// Others follow.
    First,
    /// Nothing can be under way any more: when nothing is left, the erasure is over.
    Last,
}

/// Erases a portion of what is kept of a user.
#[derive(Debug, Clone, Copy)]
struct ErasePortion {
    user: UserId,
    run: ErasureRun,
}

/// Erases at most [`PORTION_LIMIT`] rows of one kind, and returns how many.
type ErasePart = fn(&mut Tx<'_>, UserId) -> Result<usize, StoreError>;

impl Write for ErasePortion {
    type Out = Pruned;

    /// Says nothing about the pace of bids.
    fn weight(&self) -> Option<usize> {
        None
    }

    fn run(&self, tx: &mut Tx<'_>) -> Result<Pruned, StoreError> {
        // Alarms and bids that this transaction collected earlier count too.
        tx.flush()?;
        let parts: [ErasePart; 6] =
            [erase_lines, erase_messages, erase_chat_alarms, erase_inbox, erase_likes, erase_keys];
        let largest = overwriting(tx, |tx| {
            let mut largest = 0;
            for part in parts {
                largest = part(tx, self.user)?.max(largest);
            }
            erase_preferences(tx, self.user)?;
            Ok(largest)
        })?;
        if largest as i64 >= PORTION_LIMIT {
            return Ok(Pruned::Portion);
        }
        if self.run == ErasureRun::Last {
            use schema::erasures::dsl;
            delete(dsl::erasures.filter(dsl::user_id.eq(self.user.get()))).execute(tx.conn)?;
        }
        Ok(Pruned::All)
    }
}

impl Ledger {
    /// Erases everything that is kept of a user, portion by portion.
    ///
    /// # Errors
    /// A portion was not written; those before it are.
    pub(crate) async fn erase(&self, user: UserId, run: ErasureRun) -> Result<(), WriteError> {
        while self.write(ErasePortion { user, run }, PORTION_TIMEOUT).await? == Pruned::Portion {
            tokio::time::sleep(PORTION_PAUSE).await;
        }
        Ok(())
    }
}

/// Runs `erase` so that SQLite overwrites pages that become empty, too. (PostgreSQL's vacuum does that, later.)
fn overwriting<T>(tx: &mut Tx<'_>, erase: impl FnOnce(&mut Tx<'_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
    let secure_delete = |tx: &mut Tx<'_>, pragma| match tx.conn {
        DbConn::Sqlite(conn) => conn.batch_execute(pragma),
        DbConn::Pg(_) => Ok(()),
    };
    secure_delete(tx, "PRAGMA secure_delete = ON")?;
    let erased = erase(tx);
    secure_delete(tx, "PRAGMA secure_delete = FAST")?;
    erased
}

/// Lines of auction rooms go for everybody.
fn erase_lines(tx: &mut Tx<'_>, user: UserId) -> Result<usize, StoreError> {
    use schema::room_lines::dsl;
    let written = dsl::room_lines.filter(dsl::author_id.eq(user.get())).order(dsl::id).limit(PORTION_LIMIT);
    let lines: Vec<(LineId, GoodsId)> = written.select((dsl::id, dsl::goods_id)).load(tx.conn)?;
    if !lines.is_empty() {
        line_removal::remove(tx, &lines)?;
    }
    Ok(lines.len())
}

fn erase_messages(tx: &mut Tx<'_>, user: UserId) -> Result<usize, StoreError> {
    use schema::{trade_messages::dsl, trade_rooms};
    let written = dsl::trade_messages.filter(dsl::author_id.eq(user.get())).order(dsl::id).limit(PORTION_LIMIT);
    let messages: Vec<(i64, i64)> = written.select((dsl::id, dsl::goods_id)).load(tx.conn)?;
    if messages.is_empty() {
        return Ok(0);
    }
    let (ids, goods): (Vec<i64>, Vec<i64>) = messages.into_iter().unzip();
    delete(dsl::trade_messages.filter(dsl::id.eq_any(&ids))).execute(tx.conn)?;
    let last = "(SELECT max(id) FROM trade_messages WHERE trade_messages.goods_id = trade_rooms.goods_id)";
    update(trade_rooms::table.filter(trade_rooms::goods_id.eq_any(goods)))
        .set(trade_rooms::last_message_id.eq(sql::<Nullable<BigInt>>(last)))
        .execute(tx.conn)?;
    Ok(ids.len())
}

/// Removes the text and the name from other users' alarms about what the user wrote.
fn erase_chat_alarms(tx: &mut Tx<'_>, user: UserId) -> Result<usize, StoreError> {
    use schema::alarms::dsl;
    let sent = dsl::alarms.filter(dsl::sender_id.eq(user.get()).and(dsl::message.is_not_null()));
    let ids: Vec<i64> = sent.order(dsl::id).limit(PORTION_LIMIT).select(dsl::id).load(tx.conn)?;
    if !ids.is_empty() {
        let nobody = User::first_seen(user, None, None).username;
        update(dsl::alarms.filter(dsl::id.eq_any(&ids)))
            .set((dsl::message.eq(None::<String>), dsl::sender_name.eq(nobody)))
            .execute(tx.conn)?;
    }
    Ok(ids.len())
}

fn erase_inbox(tx: &mut Tx<'_>, user: UserId) -> Result<usize, StoreError> {
    use schema::inbox::dsl;
    let of_user = dsl::inbox.filter(dsl::user_id.eq(user.get())).order(dsl::alarm_id).limit(PORTION_LIMIT);
    let ids: Vec<i64> = of_user.select(dsl::alarm_id).load(tx.conn)?;
    if let Some(last) = ids.last() {
        use schema::alarms;
        // What nobody else has goes too: it may have been written to them by name.
        let only_theirs = alarms::id.eq_any(&ids).and(alarms::receivers.eq(user.to_string()));
        delete(alarms::table.filter(only_theirs)).execute(tx.conn)?;
        delete(dsl::inbox.filter(dsl::user_id.eq(user.get()).and(dsl::alarm_id.le(last)))).execute(tx.conn)?;
    }
    Ok(ids.len())
}

fn erase_likes(tx: &mut Tx<'_>, user: UserId) -> Result<usize, StoreError> {
    use schema::{fanouts, goods, likes::dsl};
    let of_user = dsl::user_id.eq(user.get()).and(dsl::removed.eq(false));
    let liked = dsl::likes.filter(of_user).order(dsl::goods_id).limit(PORTION_LIMIT);
    let goods: Vec<i64> = liked.select(dsl::goods_id).load(tx.conn)?;
    if goods.is_empty() {
        return Ok(0);
    }
    // A running fan-out still has to reach this user, so the row stays until it is done.
    let open = fanouts::table.filter(fanouts::goods_id.eq_any(&goods)).select(fanouts::goods_id);
    let open: Vec<i64> = open.load(tx.conn)?;
    update(dsl::likes.filter(of_user.and(dsl::goods_id.eq_any(&open)))).set(dsl::removed.eq(true)).execute(tx.conn)?;
    delete(dsl::likes.filter(of_user.and(dsl::goods_id.eq_any(&goods)))).execute(tx.conn)?;
    update(goods::table.filter(goods::id.eq_any(&goods)))
        .set(goods::like_count.eq(goods::like_count - 1))
        .execute(tx.conn)?;
    Ok(goods.len())
}

fn erase_keys(tx: &mut Tx<'_>, user: UserId) -> Result<usize, StoreError> {
    use schema::idempotency_keys::dsl;
    let of_user = dsl::user_id.eq(user.get());
    let used = dsl::idempotency_keys.filter(of_user).order(dsl::key).limit(PORTION_LIMIT);
    let keys: Vec<String> = used.select(dsl::key).load(tx.conn)?;
    if !keys.is_empty() {
        delete(dsl::idempotency_keys.filter(of_user.and(dsl::key.eq_any(&keys)))).execute(tx.conn)?;
    }
    Ok(keys.len())
}

fn erase_preferences(tx: &mut Tx<'_>, user: UserId) -> Result<(), StoreError> {
    use schema::mutes::dsl;
    let kinds = dsl::kind.eq_any(AlarmKind::ALL.map(AlarmKind::name));
    delete(dsl::mutes.filter(dsl::user_id.eq(user.get()).and(kinds))).execute(tx.conn)?;
    use schema::users;
    update(users::table.filter(users::id.eq(user.get()))).set(users::locale.eq(None::<String>)).execute(tx.conn)?;
    Ok(())
}
