-- Who has bid on which goods, from which bid to which: asked for the audience of an end, and whether an `outbid` still
-- holds. An index over all bids would tell as much, but every bid would write a page of it that no other bid of its
-- transaction needs; these rows are few and side by side.
CREATE TABLE bidders (
    goods_id  BIGINT NOT NULL,
    user_id   BIGINT NOT NULL,
    first_seq BIGINT NOT NULL,
    last_seq  BIGINT NOT NULL,
    PRIMARY KEY (goods_id, user_id)
) WITHOUT ROWID;
INSERT INTO bidders SELECT goods_id, user_id, min(seq), max(seq) FROM bids GROUP BY goods_id, user_id;
DROP INDEX bids_by_bidder;
