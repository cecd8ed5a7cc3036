-- Durable runs. States are the numbers of ductstream.v1.RunState: 1 queued, 2 running, 3 succeeded, 4 failed, 5 cancelled, 6 skipped.
CREATE TABLE runs (
    id @KEY@ PRIMARY KEY,
    kind TEXT NOT NULL,
    key @KEY@, -- at most one queued or running run has it
    queue @KEY@ NOT NULL,
    parent_id @KEY@,
    flow_id @KEY@,
    schedule @KEY@,
    partition_key TEXT, -- of the partition (kind, partition_key) that follows this run
    input TEXT NOT NULL,
    result TEXT,
    error TEXT,
    checkpoint TEXT, -- where the next attempt goes on
    tags TEXT NOT NULL,
    concurrency_key @KEY@,
    concurrency_limit BIGINT NOT NULL,
    state BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    max_attempts BIGINT NOT NULL,
    fence BIGINT NOT NULL,
    worker TEXT,
    cancel_requested BIGINT NOT NULL,
    progress_done BIGINT NOT NULL,
    progress_total BIGINT NOT NULL,
    progress_unit TEXT,
    progress_step TEXT,
    log_seq BIGINT NOT NULL,
    log_bytes BIGINT NOT NULL,
    revision BIGINT NOT NULL, -- grows with every change that a watcher is told
    created_us BIGINT NOT NULL,
    due_us BIGINT NOT NULL,
    started_us BIGINT NOT NULL,
    heartbeat_us BIGINT NOT NULL,
    lease_us BIGINT NOT NULL, -- while running: the claim lasts until then
    finished_us BIGINT NOT NULL
);
CREATE UNIQUE INDEX runs_active_key ON runs (key) WHERE state IN (1, 2);
CREATE INDEX runs_due ON runs (due_us, id) WHERE state = 1;
CREATE INDEX runs_lease ON runs (lease_us) WHERE state = 2;
CREATE INDEX runs_finished ON runs (finished_us) WHERE state > 2;
CREATE INDEX runs_newest ON runs (created_us, id);
CREATE INDEX runs_parent ON runs (parent_id, created_us, id);
CREATE INDEX runs_key ON runs (key, created_us, id);
CREATE INDEX runs_flow ON runs (flow_id, created_us, id);
CREATE INDEX runs_schedule ON runs (schedule, created_us, id);

-- One row: the fencing number of the last claim. Who claims holds it until the claim is committed.
CREATE TABLE run_fence (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    value BIGINT NOT NULL
);
INSERT INTO run_fence (one, value) VALUES (1, 0);

CREATE TABLE run_logs (
    run_id @KEY@ NOT NULL,
    seq BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    at_us BIGINT NOT NULL,
    level TEXT NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (run_id, seq)
);
