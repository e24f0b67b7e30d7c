//! What users want of their alarms: which kinds they have muted, and the language of their texts.

use diesel::{delete, insert_into, prelude::*, update};

use crate::{
    domain::{AlarmKind, Locale, User, UserId},
    store::{Committed, Preferences, StoreError, Tx, Write, reads, rows::UserRow, schema},
};

/// Changes what a user wants of their alarms, and returns all of it. `None` keeps a preference as it is.
#[derive(Debug, Clone)]
pub(crate) struct SetPreferences {
    pub user: UserId,
    /// All kinds to mute, from the next alarm on. Kinds that are not listed are no longer muted.
    pub muted: Option<Vec<AlarmKind>>,
    /// The language that they choose, or that they choose none any more.
    pub locale: Option<Option<Locale>>,
}

impl Write for SetPreferences {
    type Out = Preferences;

    fn run(&self, tx: &mut Tx<'_>) -> Result<Preferences, StoreError> {
        if let Some(muted) = &self.muted {
            mute(tx, self.user, muted)?;
        }
        if let Some(locale) = self.locale {
            choose(tx, self.user, locale)?;
        }
        reads::preferences(tx.conn, self.user)
    }
}

fn mute(tx: &mut Tx<'_>, user: UserId, kinds: &[AlarmKind]) -> Result<(), StoreError> {
    use schema::mutes::dsl;
    let known = dsl::kind.eq_any(AlarmKind::ALL.map(AlarmKind::name));
    delete(dsl::mutes.filter(dsl::user_id.eq(user.get()).and(known))).execute(tx.conn)?;
    for kind in kinds {
        insert_into(dsl::mutes).values((dsl::user_id.eq(user.get()), dsl::kind.eq(kind.name()))).execute(tx.conn)?;
    }
    Ok(())
}

fn choose(tx: &mut Tx<'_>, user: UserId, locale: Option<Locale>) -> Result<(), StoreError> {
    // A request that writes has made sure of the user's row.
    let before = UserRow::find(tx.conn, user)?.ok_or(StoreError::Row("users"))?;
    if before.locale != locale {
        use schema::users::dsl;
        let name = locale.map(Locale::name);
        update(dsl::users.filter(dsl::id.eq(user.get()))).set(dsl::locale.eq(name)).execute(tx.conn)?;
        tx.emit(Committed::LocaleChanged(User { locale, ..before }));
    }
    Ok(())
}
