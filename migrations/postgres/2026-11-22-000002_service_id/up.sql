-- Which service this is: names its channels on a bus that others may use as well. Drawn once, never copied.
CREATE TABLE service (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    id  BIGINT NOT NULL
);
INSERT INTO service VALUES (1, floor(random() * 9007199254740991)::bigint);
