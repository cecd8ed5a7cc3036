-- How many runs there are by state, and lists of one state or kind: without them each reads all that are kept. Only those that are over:
-- SQLite would take it for claims, too, and sort all that are queued.
CREATE INDEX runs_over ON runs (state, created_us, id) WHERE state > 2;
CREATE INDEX runs_kind ON runs (kind, created_us, id);
