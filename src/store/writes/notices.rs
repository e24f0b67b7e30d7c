//! Notices, which the marketplace's backend raises.

use diesel::prelude::*;

use super::{
    audit::{AdminAction, AdminWrite, AuditTarget},
    fan_out::{self, Audience},
};
use crate::{
    domain::{Alarm, CollapseKey, EventId, GoodsId, NoticeAudience, NoticeText},
    store::{StoreError, Tx, Write, schema},
};

/// Raises a notice. A small audience has it when this is written, a large one gets it in chunks.
#[derive(Debug, Clone)]
pub(crate) struct RaiseNotice {
    pub audience: NoticeAudience,
    pub text: NoticeText,
    /// What it is about.
    pub goods: Option<GoodsId>,
    pub collapse_key: Option<CollapseKey>,
    /// How many users are active, for an audience of everyone: counting them takes too long for the ledger.
    pub active_users: i64,
}

/// Outcome of a [`RaiseNotice`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoticeRaised {
    Yes {
        event: EventId,
        /// How many users get it.
        recipients: i64,
    },
    UnknownGoods,
}

impl Write for RaiseNotice {
    type Out = NoticeRaised;

    /// A large audience takes much longer than a bid.
    fn weight(&self) -> Option<usize> {
        None
    }

    fn run(&self, tx: &mut Tx<'_>) -> Result<NoticeRaised, StoreError> {
        let now = tx.now();
        let goods = match self.goods {
            Some(id) => match tx.goods(id)?.cloned() {
                Some(goods) => Some(goods),
                None => return Ok(NoticeRaised::UnknownGoods),
            },
            None => None,
        };
        let (audience, size) = match &self.audience {
            NoticeAudience::Users(users) => (Audience::Listed(users.clone()), users.len() as i64),
            NoticeAudience::LikersOf(goods) => match likes(tx, *goods)? {
                Some(likes) => (
                    Audience::OfGoods { goods: *goods, max_like: tx.newest_like()?, max_bid_seq: None, also: None },
                    likes,
                ),
                None => return Ok(NoticeRaised::UnknownGoods),
            },
            NoticeAudience::Everyone => (Audience::Everyone, self.active_users),
        };
        let alarm = |id| Alarm::notice(id, goods.as_ref(), &self.text, now);
        let key = self.collapse_key.as_ref();
        if let Some(begun) = fan_out::begin(tx, &audience, key, alarm)? {
            let recipients = begun.receivers.unwrap_or(size);
            return Ok(NoticeRaised::Yes { event: begun.event, recipients });
        }
        // The event exists although nobody gets it.
        let id = tx.next_alarm()?;
        tx.add_alarm(alarm(id), Vec::new());
        Ok(NoticeRaised::Yes { event: EventId::from_stored(id.get()), recipients: 0 })
    }
}

impl AdminWrite for RaiseNotice {
    fn action(&self, out: &NoticeRaised) -> Option<AdminAction> {
        let NoticeRaised::Yes { event, .. } = *out else { return None };
        let to = match self.audience {
            NoticeAudience::Users(_) => "user_ids",
            NoticeAudience::LikersOf(_) => "likers_of",
            NoticeAudience::Everyone => "everyone",
        };
        let optional = [self.goods.map(|_| "goods_id"), self.collapse_key.as_ref().map(|_| "collapse_key")];
        let fields = [to, "message"].into_iter().chain(optional.into_iter().flatten()).collect();
        Some(AdminAction { name: "alarm.raise", target: AuditTarget::Event(event), fields })
    }
}

/// How many users like the goods; `None` if there are no such goods.
fn likes(tx: &mut Tx<'_>, goods: GoodsId) -> Result<Option<i64>, StoreError> {
    if tx.goods(goods)?.is_none() {
        return Ok(None);
    }
    use schema::goods::dsl;
    Ok(dsl::goods.filter(dsl::id.eq(goods.get())).select(dsl::like_count).get_result(tx.conn).optional()?)
}
