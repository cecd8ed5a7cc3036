-- The store's own time, microseconds since 1970 UTC: every process that asks has the same clock. SQLite gets a function of this
-- name from the program (src/state/db_sqlite.c).
CREATE FUNCTION ductstream.store_now_us() RETURNS bigint LANGUAGE sql VOLATILE
AS $$ SELECT (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::bigint $$;
