//! What this service knows about a user. The marketplace owns the accounts; a user is created here from their first
//! token.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{Locale, PictureId, Timestamp, UserId, picture_path};

/// A user as others see them (`U` in the protocol).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The token's `user_id`.
    pub id: UserId,
    /// The name from the newest token; not unique.
    pub username: String,
    /// An absolute path or an https URL; `/media/default.jpeg` by default.
    pub profile_image: String,
    /// 40 by default.
    pub rating_score: i32,
    /// An inactive user's tokens are refused.
    pub is_active: bool,
    /// The least `iat` (seconds) of a token that may set `username`: that of the token that set it, or the second after
    /// an admin set it.
    pub named_at: i64,
    /// The language of their texts, if they have chosen one. Other nodes read it from the store.
    #[serde(skip)]
    pub locale: Option<Locale>,
}

impl User {
    /// Longest `username`, in characters; the rest is cut off.
    pub const MAX_NAME_CHARS: usize = 150;

    /// Creates a user from their first token. Without a name they are called `user` and their id.
    pub fn first_seen(id: UserId, name: Option<&str>, iat: Option<i64>) -> Self {
        let mut user = Self {
            id,
            username: format!("user{id}"),
            profile_image: "/media/default.jpeg".to_owned(),
            rating_score: 40,
            is_active: true,
            named_at: 0,
            locale: None,
        };
        user.learn_name(name, iat);
        user
    }

    /// The path by which clients get the picture.
    pub(crate) fn picture_path(&self) -> Cow<'_, str> {
        picture_path(&self.profile_image, PictureId::User(self.id))
    }

    /// Takes the name of a token unless a newer token has set one. Returns whether to store the user, which is also the
    /// case when a newer token repeats the name: a token issued in between must not change it.
    /// A token without `iat` counts as older than all others. An inactive user's tokens are refused, and name nobody.
    pub fn learn_name(&mut self, name: Option<&str>, iat: Option<i64>) -> bool {
        let (name, named_at) = (clean(name.unwrap_or_default()), iat.unwrap_or(0));
        if name.is_empty() || named_at < self.named_at || !self.is_active {
            return false;
        }
        let changed = name != self.username || named_at != self.named_at;
        self.named_at = named_at;
        self.username = name;
        changed
    }

    /// Forgets who the user is. They are called `user` and their id, have the default picture, and are inactive. Should
    /// they become active again, only a token issued in a later second names them.
    pub(crate) fn erase(&mut self, now: Timestamp) {
        let named_at = self.named_at.max(now.secs()) + 1;
        *self = Self { is_active: false, named_at, ..Self::first_seen(self.id, None, None) };
    }

    /// An admin renames the user at `now`. Only a token issued in a later second changes the name again.
    pub fn rename(&mut self, name: &str, now: Timestamp) {
        let name = clean(name);
        if !name.is_empty() {
            self.username = name;
            self.named_at = self.named_at.max(now.secs()) + 1;
        }
    }
}

/// Trims a name, removes control characters and cuts it to [`User::MAX_NAME_CHARS`].
fn clean(name: &str) -> String {
    name.trim().chars().filter(|c| !c.is_control()).take(User::MAX_NAME_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admins_name_holds_until_a_token_of_a_later_second() {
        let mut user = User::first_seen(UserId::from_stored(7), Some("old"), Some(100));
        user.rename("given", Timestamp::from_micros(100_999_999));
        assert!(!user.learn_name(Some("old"), Some(100)));
        assert_eq!(user.username, "given");
        assert!(user.learn_name(Some("new"), Some(101)));
        // A token from an issuer whose clock is ahead.
        assert!(user.learn_name(Some("ahead"), Some(500)));
        user.rename("given", Timestamp::from_secs(110));
        assert!(!user.learn_name(Some("ahead"), Some(500)));
        assert_eq!(user.username, "given");
        assert!(user.learn_name(Some("newer"), Some(501)));
    }

    #[test]
    fn no_token_from_before_brings_an_erased_users_name_back() {
        let mut user = User::first_seen(UserId::from_stored(7), Some("mina"), Some(100));
        user.profile_image = "/media/mina.png".to_owned();
        user.erase(Timestamp::from_secs(200));
        assert_eq!((user.username.as_str(), user.is_active, user.rating_score), ("user7", false, 40));
        assert_eq!(user.profile_image, "/media/default.jpeg");
        assert!(!user.learn_name(Some("mina"), Some(300)), "inactive");
        user.is_active = true;
        assert!(!user.learn_name(Some("mina"), Some(200)));
        assert!(user.learn_name(Some("new"), Some(201)));
    }

    #[test]
    fn the_newest_tokens_name_wins() {
        let id = UserId::from_stored(7);
        let mut user = User::first_seen(id, None, Some(10));
        assert_eq!(user.username, "user7");
        assert!(user.learn_name(Some("new"), Some(20)));
        assert!(!user.learn_name(Some("old"), Some(19)), "an older token must not set the name back");
        assert!(user.learn_name(Some("newer"), Some(20)));
        assert!(user.learn_name(Some("newer"), Some(30)));
        assert!(!user.learn_name(Some("newer"), Some(30)), "nothing to write");
        assert!(!user.learn_name(Some("late"), Some(25)), "the token with iat 30 is newer");
        assert!(!user.learn_name(Some("ageless"), None), "a token without iat counts as older");
        assert!(!user.learn_name(Some("  "), Some(99)), "an empty name is ignored");
        assert_eq!(user.username, "newer");
        let mut user = User::first_seen(id, Some("one"), None);
        assert!(user.learn_name(Some("other"), None), "among tokens without iat the last one wins");
        user.rename("given", Timestamp::from_secs(40));
        assert!(!user.learn_name(Some("other"), None), "an admin's name holds");
    }
}
