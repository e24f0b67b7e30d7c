//! SQL conditions on whether an alarm still holds. They have query ids, so that diesel caches their prepared
//! statements, which it does not for plain `sql(…)`: opening a socket evaluates them three times.

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

        // Valid only where `alarms` is joined to `inbox`; the query builder can't express that.
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
        "(inbox.superseded OR alarms.bid_seq IS NOT NULL AND (\
            EXISTS (SELECT 1 FROM goods WHERE goods.id = alarms.goods_id AND goods.phase = 2) OR \
            EXISTS (SELECT 1 FROM bidders WHERE bidders.goods_id = alarms.goods_id \
                AND bidders.user_id = inbox.user_id AND bidders.last_seq > alarms.bid_seq)))"
    };
}

condition!(
    Superseded,
    "True for an `outbid` that no longer holds (its auction has ended, or its receiver has bid since), and for an alarm \
     that a newer one with its collapse key has replaced.",
    superseded!()
);
condition!(NotSuperseded, "True for every other alarm.", concat!("NOT ", superseded!()));
