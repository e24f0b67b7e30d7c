//! The alarm socket: what is heard, in which order, and what a session is told when it ends.

use serde_json::json;

use crate::support::TestNode;

#[actix_web::test]
async fn the_outbid_user_hears_it_at_once_and_nobody_else_does() {
    let node = TestNode::start();
    let goods = node.live_goods(1).await;
    let (first, second) = (node.user(2), node.user(3));
    let mut tabs = [first.socket().await, first.socket().await];
    assert_eq!(first.bid(goods, 1000).await.status, 201);
    assert_eq!(second.bid(goods, 2000).await.status, 201);
    for tab in &mut tabs {
        let alarm = tab.expect("outbid").await;
        assert_eq!(alarm["response_type"], "alram");
        assert_eq!(alarm["message"], "다른 핸더가 입찰했어요!");
        assert_eq!(alarm["goods_id"], json!(goods));
        assert_eq!(alarm["high_price"], 2000);
    }
    assert_eq!(second.heard().await, []);
}
