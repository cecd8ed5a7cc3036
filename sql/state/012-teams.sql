-- Teams whose days are exported, and what the last run of a partition said of it.
CREATE TABLE teams (
    team_id BIGINT NOT NULL PRIMARY KEY,
    fields TEXT NOT NULL, -- a JSON object of texts; its secrets are sealed
    created_us BIGINT NOT NULL,
    updated_us BIGINT NOT NULL
);
ALTER TABLE partitions ADD COLUMN result TEXT;
