//! Users: made when their first token is seen, renamed by a newer one, changed by the marketplace's backend.

use diesel::{insert_into, prelude::*, update};

use crate::{
    domain::{User, UserId},
    store::{Committed, StoreError, Tx, Write, rows::UserRow, schema},
};

fn find(tx: &mut Tx<'_>, id: UserId) -> Result<Option<User>, StoreError> {
    use schema::users::dsl;
    let row: Option<UserRow> =
        dsl::users.filter(dsl::id.eq(id.get())).select(UserRow::as_select()).get_result(tx.conn).optional()?;
    Ok(row.map(User::from))
}

/// A user's name; what he would be called if he were made now, should he be unknown.
pub(super) fn name(tx: &mut Tx<'_>, id: UserId) -> Result<String, StoreError> {
    Ok(find(tx, id)?.unwrap_or_else(|| User::first_seen(id, None, None)).username)
}

fn store(tx: &mut Tx<'_>, user: &User, is_new: bool) -> Result<(), StoreError> {
    let row = UserRow::from(user);
    if is_new {
        insert_into(schema::users::table).values(row).execute(tx.conn)?;
    } else {
        update(schema::users::table.filter(schema::users::id.eq(user.id.get()))).set(row).execute(tx.conn)?;
    }
    tx.tell(Committed::UserChanged(user.clone()));
    Ok(())
}

/// A user shows a token: makes him if he is new, renames him if the token is newer than his name.
#[derive(Debug, Clone)]
pub struct SeeUser {
    /// The token's user.
    pub id: UserId,
    /// The token's `username`.
    pub name: Option<String>,
    /// The token's `iat`, in seconds.
    pub iat: Option<i64>,
}

impl Write for SeeUser {
    type Out = User;

    fn run(&self, tx: &mut Tx<'_>) -> Result<User, StoreError> {
        let found = find(tx, self.id)?;
        let is_new = found.is_none();
        let mut user = found.unwrap_or_else(|| User::first_seen(self.id, self.name.as_deref(), self.iat));
        if user.learn_name(self.name.as_deref(), self.iat) || is_new {
            store(tx, &user, is_new)?;
        }
        Ok(user)
    }
}

/// The marketplace's backend changes a user; fields that are `None` stay.
#[derive(Debug, Clone)]
pub struct ChangeUser {
    /// Who.
    pub id: UserId,
    /// Whether his tokens are good.
    pub is_active: Option<bool>,
    /// His name.
    pub username: Option<String>,
    /// A path under `/media`.
    pub profile_image: Option<String>,
    /// His score.
    pub rating_score: Option<i32>,
}

impl Write for ChangeUser {
    type Out = User;

    fn run(&self, tx: &mut Tx<'_>) -> Result<User, StoreError> {
        let found = find(tx, self.id)?;
        let is_new = found.is_none();
        // The backend may know users that have never shown a token here.
        let mut user = found.unwrap_or_else(|| User::first_seen(self.id, None, None));
        user.is_active = self.is_active.unwrap_or(user.is_active);
        if let Some(name) = &self.username {
            user.rename(name, tx.now());
        }
        if let Some(image) = &self.profile_image {
            user.profile_image.clone_from(image);
        }
        user.rating_score = self.rating_score.unwrap_or(user.rating_score);
        store(tx, &user, is_new)?;
        Ok(user)
    }
}
