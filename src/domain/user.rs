//! What this service knows of a user. Accounts stay with the marketplace; users are made from their tokens.

use serde::{Deserialize, Serialize};

use super::UserId;

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
    /// `iat` (seconds) of the token that set `username`: an older token doesn't set it back.
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
    /// A token without `iat` tells nothing about its age: it is believed, and beats no later one.
    pub fn learn_name(&mut self, name: Option<&str>, iat: Option<i64>) -> bool {
        let name: String =
            name.unwrap_or_default().trim().chars().filter(|c| !c.is_control()).take(Self::MAX_NAME_CHARS).collect();
        if name.is_empty() || iat.is_some_and(|iat| iat < self.named_at) {
            return false;
        }
        let named_at = iat.unwrap_or(self.named_at);
        let changed = name != self.username || named_at != self.named_at;
        self.named_at = named_at;
        self.username = name;
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(user.learn_name(Some("ageless"), None));
        assert!(!user.learn_name(Some("  "), Some(99)), "an empty name is none");
        assert_eq!(user.username, "ageless");
    }
}
