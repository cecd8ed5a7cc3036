CREATE TABLE ddl_events (
    id           @IDENTITY@,
    flow_id      @KEY@ NOT NULL REFERENCES flows (id) ON DELETE CASCADE,
    schema_name  TEXT NOT NULL,
    table_name   TEXT NOT NULL,
    ddl          TEXT NOT NULL,
    plan         TEXT NOT NULL,
    lsn          BIGINT NOT NULL,
    fingerprint  @KEY@ NOT NULL,
    status       TEXT NOT NULL CHECK (status IN ('pending', 'approved', 'rejected', 'applied')),
    decided_by   TEXT NOT NULL,
    created_us   BIGINT NOT NULL,
    decided_us   BIGINT NOT NULL,
    applied_us   BIGINT NOT NULL,
    UNIQUE (flow_id, lsn, fingerprint)
);
CREATE INDEX ddl_events_by_status ON ddl_events (status, id);
