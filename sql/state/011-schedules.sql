-- What enqueues runs by itself.
CREATE TABLE schedules (
    name @KEY@ PRIMARY KEY,
    cron TEXT NOT NULL,
    timezone TEXT NOT NULL,
    paused BIGINT NOT NULL,
    kind TEXT NOT NULL,
    each_running_flow BIGINT NOT NULL,
    flow_id @KEY@,
    input TEXT NOT NULL,
    queue @KEY@ NOT NULL,
    max_attempts BIGINT NOT NULL,
    concurrency_key @KEY@,
    concurrency_limit BIGINT NOT NULL,
    next_us BIGINT NOT NULL,
    last_us BIGINT NOT NULL,
    last_enqueued BIGINT NOT NULL,
    error TEXT
);
CREATE INDEX schedules_due ON schedules (next_us) WHERE paused = 0;

CREATE TABLE sensors (
    name @KEY@ PRIMARY KEY,
    cursor TEXT NOT NULL,
    paused BIGINT NOT NULL,
    interval_ms BIGINT NOT NULL,
    next_us BIGINT NOT NULL,
    last_us BIGINT NOT NULL,
    last_enqueued BIGINT NOT NULL,
    failures BIGINT NOT NULL, -- in a row
    error TEXT
);

CREATE TABLE partitions (
    job @KEY@ NOT NULL,
    key @KEY@ NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('missing', 'queued', 'running', 'done', 'failed', 'quarantined')),
    attempts BIGINT NOT NULL,
    run_id @KEY@,
    updated_us BIGINT NOT NULL,
    PRIMARY KEY (job, key)
);
CREATE INDEX partitions_run ON partitions (run_id);
