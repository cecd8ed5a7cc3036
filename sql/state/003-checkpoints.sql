-- May lie in another database than the flows. An lsn has 64 bits: from 80000000/0 on its number is negative.
CREATE TABLE checkpoints (
    flow_id        @KEY@ NOT NULL PRIMARY KEY,
    lsn            BIGINT NOT NULL,
    timestamp_us   BIGINT NOT NULL,
    authoritative  BIGINT NOT NULL,
    metadata       TEXT NOT NULL,
    updated_us     BIGINT NOT NULL
);
