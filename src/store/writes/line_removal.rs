//! Removes lines of auction rooms, for everybody.

use diesel::{delete, insert_into, prelude::*};

use super::audit::{AdminAction, AdminWrite, AuditTarget};
use crate::{
    domain::{GoodsId, LineId},
    store::{
        Committed, RoomEvent, StoreError, Tx, Write,
        engine::on_each,
        schema::{line_removals, room_lines},
    },
};

/// Removes a line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RemoveLine(pub LineId);

/// Outcome of a [`RemoveLine`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RemovedLine {
    Yes,
    UnknownLine,
}

impl Write for RemoveLine {
    type Out = RemovedLine;

    fn run(&self, tx: &mut Tx<'_>) -> Result<RemovedLine, StoreError> {
        let goods: Option<i64> = room_lines::table
            .filter(room_lines::id.eq(self.0.get()))
            .select(room_lines::goods_id)
            .get_result(tx.conn)
            .optional()?;
        let Some(goods) = goods else { return Ok(RemovedLine::UnknownLine) };
        remove(tx, &[(self.0, GoodsId::from_stored(goods))])?;
        Ok(RemovedLine::Yes)
    }
}

impl AdminWrite for RemoveLine {
    fn action(&self, out: &RemovedLine) -> Option<AdminAction> {
        let target = AuditTarget::Line(self.0);
        (*out == RemovedLine::Yes).then(|| AdminAction { name: "line.remove", target, fields: Vec::new() })
    }
}

/// Removes these lines of these goods, which exist.
pub(super) fn remove(tx: &mut Tx<'_>, lines: &[(LineId, GoodsId)]) -> Result<(), StoreError> {
    delete(room_lines::table.filter(room_lines::id.eq_any(lines.iter().map(|(line, _)| line.get()))))
        .execute(tx.conn)?;
    let mut removals = Vec::with_capacity(lines.len());
    for (line, goods) in lines.iter().copied() {
        let id = tx.next_line()?;
        removals.push((
            line_removals::id.eq(id.get()),
            line_removals::goods_id.eq(goods.get()),
            line_removals::line_id.eq(line.get()),
        ));
        tx.emit(Committed::Room(RoomEvent::LineRemoved { goods, id, line }));
    }
    on_each!(tx.conn, conn => insert_into(line_removals::table).values(removals).execute(conn))?;
    Ok(())
}
