//! The number of statements of a list is the same however long it is. The test fails with every query added per row.

use crate::support::{Market, statements_of, watch_statements};

/// The lists, and how many statements each may take at most. Of goods: the goods, people, first pictures, likers, and
/// the viewer's likes. The recommended goods come in two phases.
const LISTS: [(&str, usize); 10] = [
    ("/goods/", 5),
    ("/goods/?search=camera&category=&status=", 5),
    ("/goods/?status=true", 5),
    ("/goods/recommend/", 6),
    ("/goods/user/1/?status=sell", 5),
    ("/goods/user/5/?status=buy", 5),
    ("/goods/user/5/?status=like", 5),
    ("/goods/1/chat/", 2),
    ("/chat/", 4),
    ("/chat/goods/2/", 3),
];

/// The statements of each list with so many live goods, sold goods, likes, lines and messages.
async fn costs(rows: i64) -> Vec<(usize, Vec<String>)> {
    let market = Market::open();
    for i in 0..rows {
        let live = market.goods_at(1, market.now(), |goods| goods.images = vec!["/media/a.png".into()]);
        market.bid(live, 2 + i % 8, 1000, market.now());
        let sold = market.ended_with(1 + i % 4, Some(5), |goods| goods.images = vec!["/media/b.png".into()]);
        market.seed().likes(&[live, sold], 1..=9);
        market.message(sold, 1 + i % 4, "hello");
    }
    market.lines(1, 3, (0..rows).map(|line| format!("line {line}")));
    market.messages(2, 1, (1..rows).map(|message| format!("message {message}")));
    watch_statements(&market.database());
    let node = market.serve();
    let viewer = node.user(5);
    assert_eq!(viewer.get("/alarms").await.status, 200, "the viewer is known from here on");
    let mut costs = Vec::new();
    for (path, _) in LISTS {
        // Retention reads old alarms at its start. Its statements may come in between, and only add to the list's own.
        let mut least: Option<(usize, Vec<String>)> = None;
        for _ in 0..3 {
            statements_of(&node);
            let answer = viewer.get(path).await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.text);
            let statements = statements_of(&node);
            if least.as_ref().is_none_or(|(_, least)| statements.len() < least.len()) {
                least = Some((answer.body.as_array().unwrap().len(), statements));
            }
        }
        costs.extend(least);
    }
    costs
}

#[actix_web::test]
async fn a_long_list_takes_as_many_statements_as_a_list_of_one() {
    let (few, many) = (costs(1).await, costs(12).await);
    for (((path, most), (few_rows, few)), (many_rows, many)) in LISTS.iter().zip(few).zip(many) {
        assert!(few_rows <= 2 && many_rows >= 10, "{path}: {few_rows} and {many_rows} rows");
        assert_eq!(many.len(), few.len(), "{path}: {few:#?} {many:#?}");
        assert!((1..=*most).contains(&many.len()), "{path}: {many:#?}");
    }
}
