//! Users. Their first token creates them, a newer token renames them, the marketplace's backend changes them.

use diesel::{insert_into, prelude::*, update};

use super::audit::{AdminAction, AdminWrite, AuditTarget};
use crate::{
    domain::{User, UserId},
    store::{Committed, StoreError, Tx, Write, rows::UserRow, schema},
};

/// A user's name. For an unknown user it is the name that they would get if they were created now.
pub(super) fn name(tx: &mut Tx<'_>, id: UserId) -> Result<String, StoreError> {
    Ok(UserRow::find(tx.conn, id)?.unwrap_or_else(|| User::first_seen(id, None, None)).username)
}

pub(super) fn store(tx: &mut Tx<'_>, user: &User, is_new: bool) -> Result<(), StoreError> {
    let row = UserRow::from(user);
    if is_new {
        insert_into(schema::users::table).values(row).execute(tx.conn)?;
    } else {
        update(schema::users::table.filter(schema::users::id.eq(user.id.get()))).set(row).execute(tx.conn)?;
    }
    tx.emit(Committed::UserChanged(user.clone()));
    Ok(())
}

/// Creates the user of a valid token if they are new, and renames them if the token is newer than their name.
#[derive(Debug, Clone)]
pub struct EnsureUser {
    pub id: UserId,
    /// The token's `username`, if it has one.
    pub name: Option<String>,
    /// The token's `iat`, in seconds since 1970.
    pub iat: Option<i64>,
}

impl Write for EnsureUser {
    type Out = User;

    fn run(&self, tx: &mut Tx<'_>) -> Result<User, StoreError> {
        let found = UserRow::find(tx.conn, self.id)?;
        let is_new = found.is_none();
        let mut user = found.unwrap_or_else(|| User::first_seen(self.id, self.name.as_deref(), self.iat));
        if user.learn_name(self.name.as_deref(), self.iat) || is_new {
            store(tx, &user, is_new)?;
        }
        Ok(user)
    }
}

/// Changes a user on behalf of the marketplace's backend, and creates them if they are new. `None` keeps a field as it
/// is.
#[derive(Debug, Clone)]
pub(crate) struct ChangeUser {
    pub id: UserId,
    pub is_active: Option<bool>,
    pub username: Option<String>,
    /// Their picture, a path under `/media`.
    pub profile_image: Option<String>,
    pub rating_score: Option<i32>,
}

impl Write for ChangeUser {
    type Out = User;

    fn run(&self, tx: &mut Tx<'_>) -> Result<User, StoreError> {
        let found = UserRow::find(tx.conn, self.id)?;
        let is_new = found.is_none();
        // The backend may know users who have never sent a token to this service.
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

impl AdminWrite for ChangeUser {
    fn action(&self, _: &User) -> Option<AdminAction> {
        let fields = [
            self.is_active.map(|_| "is_active"),
            self.username.as_ref().map(|_| "username"),
            self.profile_image.as_ref().map(|_| "profile_image"),
            self.rating_score.map(|_| "rating_score"),
        ];
        let name = match self.is_active {
            Some(true) => "user.activate",
            Some(false) => "user.deactivate",
            None => "user.change",
        };
        let fields = fields.into_iter().flatten().collect();
        Some(AdminAction { name, target: AuditTarget::User(self.id), fields })
    }
}
