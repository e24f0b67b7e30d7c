-- What admins changed: one row for each call, written in the transaction of its change. Ids rise without gaps.
CREATE TABLE audit (
    id         BIGINT PRIMARY KEY,
    created_at BIGINT NOT NULL,
    admin_id   BIGINT NOT NULL,
    action     TEXT NOT NULL,
    -- `user`, `goods`, `line` …, and which one
    target     TEXT NOT NULL,
    target_id  BIGINT NOT NULL,
    -- the names of the changed fields with commas between them; never their values
    fields     TEXT NOT NULL
);

-- An admin has ended the auction, without a buyer.
ALTER TABLE goods ADD COLUMN cancelled BOOLEAN NOT NULL DEFAULT FALSE;
