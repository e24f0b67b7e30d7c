-- When the node told its sockets that it restarts, until it is up again: tells how long a restart takes here.
CREATE TABLE stops (
    one        INTEGER PRIMARY KEY CHECK (one = 1) NOT NULL,
    stopped_at INTEGER NOT NULL
);
