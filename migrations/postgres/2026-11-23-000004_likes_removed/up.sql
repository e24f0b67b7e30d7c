-- Likes that were taken back while a fan-out of their goods ran are cleared away when it is done: without this all likes of
-- the goods are looked through for them, in one transaction.
CREATE INDEX likes_removed ON likes (goods_id) WHERE removed;
