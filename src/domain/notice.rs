//! Notices: alarms that the marketplace's backend raises, with a text of its own, for users of its choice.

use serde::{Deserialize, Serialize};

use super::{GoodsId, UserId, chat::text_type};

text_type!(
    /// What a notice says (`docs/protocol.md#notices`).
    NoticeText,
    500
);
text_type!(
    /// Says which notices replace each other: a user's newest one of a key supersedes the unread one before it.
    CollapseKey,
    64
);

/// Who gets a notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoticeAudience {
    /// These users, each once, in ascending order. The service need not know them yet.
    Users(Vec<UserId>),
    /// Everybody who likes these goods now.
    LikersOf(GoodsId),
    /// Every active user whom the service knows.
    Everyone,
}

impl NoticeAudience {
    /// Most users that one notice names. They are kept as a list until the last of them has the notice.
    pub(crate) const MAX_USERS: usize = 20_000;

    /// The audience of these users; `None` if there are none, or more than [`MAX_USERS`](Self::MAX_USERS).
    pub(crate) fn of_users(mut users: Vec<UserId>) -> Option<Self> {
        users.sort_unstable();
        users.dedup();
        (1..=Self::MAX_USERS).contains(&users.len()).then_some(Self::Users(users))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_named_once_in_order_and_at_most_so_many() {
        let users = |ids: &[i64]| ids.iter().copied().map(UserId::from_stored).collect::<Vec<_>>();
        assert_eq!(NoticeAudience::of_users(users(&[3, 1, 3])), Some(NoticeAudience::Users(users(&[1, 3]))));
        assert_eq!(NoticeAudience::of_users(Vec::new()), None);
        let max = NoticeAudience::MAX_USERS as i64;
        assert!(NoticeAudience::of_users((1..=max).map(UserId::from_stored).collect()).is_some());
        assert_eq!(NoticeAudience::of_users((0..=max).map(UserId::from_stored).collect()), None);
    }
}
