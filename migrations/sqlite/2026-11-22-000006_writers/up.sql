-- How far each writer has come: written in the transaction that it marks, so that the fate of a commit whose answer was
-- lost can be looked up.
CREATE TABLE writer_marks (
    writer   INTEGER PRIMARY KEY NOT NULL,
    mark     BIGINT NOT NULL,
    begun_at BIGINT NOT NULL
);
