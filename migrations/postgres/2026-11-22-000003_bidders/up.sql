-- Who has bid on which goods, from which bid to which: asked for the audience of an end, and whether an `outbid` still
-- holds. An index over all bids would tell as much, but grows with every bid; these rows are few, and their pages have
-- room for the next version of a row.
-- No bid of a node of the version before may slip in between. Its later bids would be missing here: stop all nodes first.
LOCK TABLE bids IN SHARE ROW EXCLUSIVE MODE;
CREATE TABLE bidders (
    goods_id  BIGINT NOT NULL,
    user_id   BIGINT NOT NULL,
    first_seq BIGINT NOT NULL,
    last_seq  BIGINT NOT NULL,
    PRIMARY KEY (goods_id, user_id)
) WITH (fillfactor = 50);
INSERT INTO bidders SELECT goods_id, user_id, min(seq), max(seq) FROM bids GROUP BY goods_id, user_id;
DROP INDEX bids_by_bidder;
