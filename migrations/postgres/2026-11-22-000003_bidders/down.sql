CREATE INDEX bids_by_bidder ON bids (goods_id, user_id, seq);
DROP TABLE bidders;
