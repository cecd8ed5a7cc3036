CREATE TABLE flows (
    id          @KEY@ NOT NULL PRIMARY KEY,
    name        TEXT NOT NULL,
    state       TEXT NOT NULL CHECK (state IN ('created', 'running', 'paused', 'stopping', 'failed', 'stopped')),
    reason      TEXT NOT NULL,
    definition  TEXT NOT NULL,
    revision    BIGINT NOT NULL,
    created_us  BIGINT NOT NULL,
    updated_us  BIGINT NOT NULL
);
CREATE INDEX flows_by_state ON flows (state, id);

CREATE TABLE flow_state_events (
    id          @IDENTITY@,
    flow_id     @KEY@ NOT NULL REFERENCES flows (id) ON DELETE CASCADE,
    from_state  TEXT NOT NULL,
    to_state    TEXT NOT NULL,
    reason      TEXT NOT NULL,
    actor       TEXT NOT NULL,
    at_us       BIGINT NOT NULL
);
CREATE INDEX flow_state_events_by_flow ON flow_state_events (flow_id, id);

-- Who may work on what, until when. A row stays when nobody has it: its fence never goes back.
CREATE TABLE leases (
    name        @KEY@ NOT NULL PRIMARY KEY,
    holder      TEXT NOT NULL,
    fence       BIGINT NOT NULL,
    expires_us  BIGINT NOT NULL
);

-- The last report of each flow's worker.
CREATE TABLE flow_reports (
    flow_id     @KEY@ NOT NULL PRIMARY KEY REFERENCES flows (id) ON DELETE CASCADE,
    fence       BIGINT NOT NULL,
    report      TEXT NOT NULL,
    at_us       BIGINT NOT NULL
);
