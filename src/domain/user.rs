//! What this service knows of a user. Accounts stay with the marketplace; users are made from their tokens.

use serde::{Deserialize, Serialize};

use super::{Timestamp, UserId};

/// A user as other people see him (the origin's `U`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The token's `user_id`.
    pub id: UserId,
    /// The newest token's name; names need not be unique.
    pub username: String,
    /// A path under `/media`.
    pub profile_image: String,
    /// 40 when nothing is known.
    pub rating_score: i32,
    /// An inactive user's tokens are refused.
    pub is_active: bool,
    /// The least `iat` (seconds) of a token that may set `username`: that of the token that did, or the second after an
    /// admin did.
    pub named_at: i64,
}

impl User {
    /// Longest name that is kept, in characters.
    pub const MAX_NAME_CHARS: usize = 150;

    /// A user as he is made when his first token is seen.
    pub fn first_seen(id: UserId, name: Option<&str>, iat: Option<i64>) -> Self {
        let mut user = Self {
            id,
            username: format!("user{id}"),
            profile_image: "/media/default.jpeg".to_owned(),
            rating_score: 40,
            is_active: true,
            named_at: 0,
        };
        user.learn_name(name, iat);
        user
    }

    /// Takes the name of a token unless a newer token has set one; true if anything changed and is worth a write
    /// (also that a newer token repeats the name: one that lies between must not change it).
    /// A token without `iat` tells nothing about its age: it counts as older than all that do.
    pub fn learn_name(&mut self, name: Option<&str>, iat: Option<i64>) -> bool {
        let (name, named_at) = (clean(name.unwrap_or_default()), iat.unwrap_or(0));
        if name.is_empty() || named_at < self.named_at {
            return false;
        }
        let changed = name != self.username || named_at != self.named_at;
        self.named_at = named_at;
        self.username = name;
        changed
    }

    /// An admin names the user now, whatever tokens have said: only one that is issued in a later second renames them.
    pub fn rename(&mut self, name: &str, now: Timestamp) {
        let name = clean(name);
        if !name.is_empty() {
            self.username = name;
            self.named_at = self.named_at.max(now.secs()) + 1;
        }
    }
}

/// A name as it is kept: in one line, and not too long.
fn clean(name: &str) -> String {
    name.trim().chars().filter(|c| !c.is_control()).take(User::MAX_NAME_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_an_admin_gives_holds_until_a_token_of_a_later_second() {
        let mut user = User::first_seen(UserId::from_stored(7), Some("old"), Some(100));
        user.rename("given", Timestamp::from_micros(100_999_999));
        assert!(!user.learn_name(Some("old"), Some(100)));
        assert_eq!(user.username, "given");
        assert!(user.learn_name(Some("new"), Some(101)));
        // An issuer whose clock is ahead.
        assert!(user.learn_name(Some("ahead"), Some(500)));
        user.rename("given", Timestamp::from_secs(110));
        assert!(!user.learn_name(Some("ahead"), Some(500)));
        assert_eq!(user.username, "given");
        assert!(user.learn_name(Some("newer"), Some(501)));
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
        assert!(!user.learn_name(Some("late"), Some(25)), "the token of 30 was newer");
        assert!(!user.learn_name(Some("ageless"), None), "it may be older");
        assert!(!user.learn_name(Some("  "), Some(99)), "an empty name is none");
        assert_eq!(user.username, "newer");
        let mut user = User::first_seen(id, Some("one"), None);
        assert!(user.learn_name(Some("other"), None), "where no token has an age, the last one is believed");
        user.rename("given", Timestamp::from_secs(40));
        assert!(!user.learn_name(Some("other"), None), "what an admin says holds");
    }
}
