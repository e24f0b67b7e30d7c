//! A scene that bad input must not change: live goods with a leader who has an open socket.

use serde_json::Value;

use super::{Client, Socket, TestNode};

pub struct Scene {
    /// Live goods of user 1; user 2 leads with 1000.
    pub goods: i64,
    /// The user who sends bad input.
    pub rude: Client,
    leader: Socket,
    before: (Vec<Value>, Value),
    /// Dropped last: a node that stops waits for its sockets.
    pub node: TestNode,
}

impl Scene {
    pub async fn open() -> Self {
        Self::on(TestNode::start()).await
    }

    pub async fn on(node: TestNode) -> Self {
        let goods = node.live_goods(1).await;
        assert_eq!(node.user(2).bid(goods, 1000).await.status, 201);
        let mut leader = node.user(2).socket_since(0).await;
        assert_eq!(leader.next().await["response_type"], "hello");
        let before = state(&node, goods).await;
        let rude = node.user(3);
        Self { goods, rude, leader, before, node }
    }

    pub fn bids_path(&self) -> String {
        format!("/goods/{}/bids", self.goods)
    }

    /// Asserts that nothing was stored, and that the leader's socket is open and gets the next bid as its next frame.
    pub async fn assert_unharmed(mut self) {
        assert_eq!(state(&self.node, self.goods).await, self.before, "goods and bids are as before");
        assert_eq!(self.rude.inbox().await, Vec::<Value>::new());
        let answer = self.node.user(4).bid(self.goods, 2000).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        assert_eq!(answer.body["seq"], 2);
        let alarm = self.leader.expect_alarm("outbid").await;
        assert_eq!(alarm["high_price"], 2000);
        assert_eq!(self.node.visitor().get("/health/ready").await.status, 200);
    }
}

/// The history and the goods' page, without what changes by itself.
async fn state(node: &TestNode, goods: i64) -> (Vec<Value>, Value) {
    let mut page = node.visitor().get(&format!("/goods/{goods}/")).await.body;
    page.as_object_mut().unwrap().remove("server_time").expect("a page");
    // The clock starts the auction in its own time.
    page["status"] = Value::Null;
    (node.visitor().history(goods).await, page)
}
