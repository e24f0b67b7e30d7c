//! Whether an `outbid` still holds, in SQL. Plain `sql(…)` would be put together and prepared anew each time: whoever opens
//! a socket asks three times.

use diesel::{
    backend::Backend,
    expression::{AppearsOnTable, Expression, SelectableExpression, ValidGrouping, is_aggregate},
    prelude::*,
    query_builder::{AstPass, QueryFragment, QueryId},
    sql_types::Bool,
};

macro_rules! condition {
    ($name:ident, $doc:literal, $sql:expr) => {
        #[doc = $doc]
        #[derive(Debug, Clone, Copy, QueryId)]
        pub(super) struct $name;

        impl Expression for $name {
            type SqlType = Bool;
        }

        // Only where `alarms` is joined to `inbox`; the query builder has no way to say so.
        impl<Tables> AppearsOnTable<Tables> for $name {}
        impl<Tables> SelectableExpression<Tables> for $name {}

        impl<GroupedBy> ValidGrouping<GroupedBy> for $name {
            type IsAggregate = is_aggregate::No;
        }

        impl<DB: Backend> QueryFragment<DB> for $name {
            fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
                out.push_sql($sql);
                Ok(())
            }
        }
    };
}

macro_rules! superseded {
    () => {
        "(alarms.bid_seq IS NOT NULL AND (\
            EXISTS (SELECT 1 FROM goods WHERE goods.id = alarms.goods_id AND goods.phase = 2) OR \
            EXISTS (SELECT 1 FROM bidders WHERE bidders.goods_id = alarms.goods_id \
                AND bidders.user_id = inbox.user_id AND bidders.last_seq > alarms.bid_seq)))"
    };
}

condition!(
    Superseded,
    "That an `outbid` no longer holds: its auction has ended, or its receiver has bid since. Both engines know it.",
    superseded!()
);
condition!(Standing, "That an alarm still holds.", concat!("NOT ", superseded!()));
