-- Where the ledger writes after a failure, to see whether there is room for a batch again.
CREATE TABLE probe (
    one     INTEGER PRIMARY KEY CHECK (one = 1) NOT NULL,
    padding TEXT NOT NULL
);
INSERT INTO probe VALUES (1, '');
