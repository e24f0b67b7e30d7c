//! The audit: which admin changed what, and when. An entry is written in the transaction of its change, so there is
//! neither a change without its entry nor an entry without its change.

use diesel::{dsl::max, insert_into, prelude::*};

use crate::{
    domain::{EventId, GoodsId, LineId, UserId},
    store::{StoreError, Tx, Write, schema::audit},
};

/// A write that an admin asks for.
pub(crate) trait AdminWrite: Write {
    /// What the audit keeps of it once it has run; `None` if it changed nothing.
    fn action(&self, out: &Self::Out) -> Option<AdminAction>;
}

/// What an admin did. It holds names of fields and ids, never a value that somebody wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AdminAction {
    /// Its name in the audit.
    pub name: &'static str,
    pub target: AuditTarget,
    /// The fields that the call changed.
    pub fields: Vec<&'static str>,
}

/// What an admin's action changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AuditTarget {
    User(UserId),
    Goods(GoodsId),
    /// An event that raised alarms.
    Event(EventId),
    Line(LineId),
}

impl AuditTarget {
    /// The kind of the target and its id, as a row holds them.
    fn columns(self) -> (&'static str, i64) {
        match self {
            Self::User(id) => ("user", id.get()),
            Self::Goods(id) => ("goods", id.get()),
            Self::Event(id) => ("event", id.get()),
            Self::Line(id) => ("line", id.get()),
        }
    }
}

/// Runs a write for an admin and keeps in the audit what they did.
#[derive(Debug, Clone)]
pub(crate) struct Audited<W> {
    pub admin: UserId,
    pub write: W,
}

impl<W: AdminWrite> Write for Audited<W> {
    type Out = W::Out;

    fn goods(&self) -> Option<GoodsId> {
        self.write.goods()
    }

    fn weight(&self) -> Option<usize> {
        self.write.weight()
    }

    fn run(&self, tx: &mut Tx<'_>) -> Result<W::Out, StoreError> {
        let out = self.write.run(tx)?;
        if let Some(AdminAction { name, target, fields }) = self.write.action(&out) {
            // Ids rise in commit order, because only one transaction writes at a time.
            let newest: Option<i64> = audit::table.select(max(audit::id)).get_result(tx.conn)?;
            let (kind, id) = target.columns();
            insert_into(audit::table)
                .values((
                    audit::id.eq(newest.unwrap_or(0) + 1),
                    audit::created_at.eq(tx.now().micros()),
                    audit::admin_id.eq(self.admin.get()),
                    audit::action.eq(name),
                    audit::target.eq(kind),
                    audit::target_id.eq(id),
                    audit::fields.eq(fields.join(",")),
                ))
                .execute(tx.conn)?;
        }
        Ok(out)
    }
}
