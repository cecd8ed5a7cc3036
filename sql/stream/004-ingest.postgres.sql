-- Batches that others send (IngestService): payloads become events of a stream, with the sender's position, in one transaction.

-- How far a flow elsewhere is in a stream here. epoch: of its sender, others are refused; 0: nobody took it over. batch: number of the last
-- one that is in the stream. parts: how many of the next one are here.
CREATE TABLE ductstream.stream_ingests (
	flow text NOT NULL,
	stream_id int NOT NULL,
	epoch int8 NOT NULL DEFAULT 0,
	batch int8 NOT NULL DEFAULT 0,
	parts int NOT NULL DEFAULT 0,
	lsn pg_lsn NOT NULL DEFAULT '0/0',
	-- The checkpoint as it came; NULL: nothing came yet.
	timestamp_ms int8 NOT NULL DEFAULT 0,
	metadata jsonb,
	updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	PRIMARY KEY (flow, stream_id)
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

-- Parts of a batch whose end has not come.
CREATE TABLE ductstream.stream_ingest_parts (
	flow text NOT NULL,
	stream_id int NOT NULL,
	part int NOT NULL,
	lsn pg_lsn,
	operation text NOT NULL,
	namespace text NOT NULL,
	table_name text NOT NULL,
	wire_format text NOT NULL,
	payload bytea NOT NULL,
	PRIMARY KEY (flow, stream_id, part)
);

-- The stream and its end, made where they are missing; the flow's row in it, locked.
CREATE FUNCTION ductstream.stream_ingest_lock(p_flow text, p_stream text) RETURNS ductstream.stream_ingests LANGUAGE plpgsql AS $$
DECLARE
	v_id int := (SELECT s.stream_id FROM ductstream.streams s WHERE s.name = p_stream);
	v_ingest ductstream.stream_ingests;
BEGIN
	IF v_id IS NULL THEN
		INSERT INTO ductstream.streams (name) VALUES (p_stream) ON CONFLICT (name) DO NOTHING;
		v_id := (SELECT s.stream_id FROM ductstream.streams s WHERE s.name = p_stream);
	END IF;
	SELECT i.* INTO v_ingest FROM ductstream.stream_ingests i WHERE i.flow = p_flow AND i.stream_id = v_id FOR UPDATE;
	IF NOT FOUND THEN
		INSERT INTO ductstream.stream_heads (stream_id) VALUES (v_id) ON CONFLICT DO NOTHING;
		INSERT INTO ductstream.stream_ingests (flow, stream_id) VALUES (p_flow, v_id) ON CONFLICT DO NOTHING;
		SELECT i.* INTO v_ingest FROM ductstream.stream_ingests i WHERE i.flow = p_flow AND i.stream_id = v_id FOR UPDATE;
	END IF;
	RETURN v_ingest;
END $$;

-- Who sends from now on. p_epoch: only when it is still this one, 0: whoever it was. Parts that came before are forgotten.
CREATE FUNCTION ductstream.stream_ingest_take_over(p_flow text, p_stream text, p_epoch int8) RETURNS SETOF ductstream.stream_ingests
LANGUAGE plpgsql AS $$
DECLARE
	v_ingest ductstream.stream_ingests := ductstream.stream_ingest_lock(p_flow, p_stream);
BEGIN
	IF p_epoch = 0 OR p_epoch = v_ingest.epoch THEN
		DELETE FROM ductstream.stream_ingest_parts p WHERE p.flow = p_flow AND p.stream_id = v_ingest.stream_id;
		UPDATE ductstream.stream_ingests i SET epoch = CASE p_epoch WHEN 0 THEN i.epoch + 1 ELSE i.epoch END, parts = 0
			WHERE i.flow = p_flow AND i.stream_id = v_ingest.stream_id RETURNING i.* INTO v_ingest;
	END IF;
	RETURN NEXT v_ingest;
END $$;

-- What is to be done with part p_part of batch p_batch (NULL: batches are not numbered, the position tells them apart):
--   take     it is next, or begins the batch anew: part 1 of a sender that took nothing over
--   repeat   it is here already
--   fenced   somebody else sends
--   gap      something before it is missing
--   behind   its position lies below what is here
CREATE FUNCTION ductstream.stream_ingest_judge(p_ingest ductstream.stream_ingests, p_epoch int8, p_batch int8, p_part int, p_last bool,
	p_lsn pg_lsn, p_copying bool) RETURNS text LANGUAGE sql IMMUTABLE AS $$
	SELECT CASE
		WHEN p_epoch <> p_ingest.epoch THEN 'fenced'
		WHEN p_batch IS NULL AND p_part = 1 AND p_last THEN
			CASE WHEN p_ingest.metadata IS NOT NULL AND p_lsn <= p_ingest.lsn THEN 'repeat' ELSE 'take' END
		WHEN p_batch <= p_ingest.batch THEN CASE WHEN p_last AND p_lsn > p_ingest.lsn THEN 'behind' ELSE 'repeat' END
		WHEN p_batch > p_ingest.batch + 1 THEN 'gap'
		WHEN p_part <= p_ingest.parts AND (p_part > 1 OR p_epoch > 0) THEN 'repeat'
		WHEN p_part > p_ingest.parts + 1 THEN 'gap'
		WHEN p_last AND p_lsn < p_ingest.lsn AND NOT p_copying THEN 'behind'
		ELSE 'take'
	END
$$;

-- The parts that came before, in their order, and the last one become events; the stream's end moves.
CREATE FUNCTION ductstream.stream_ingest_append(p_flow text, p_stream_id int, p_lsn pg_lsn, p_part int, p_row_lsn pg_lsn, p_operation text,
	p_namespace text, p_table text, p_format text, p_payload bytea) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	v_head ductstream.stream_heads;
	v_now timestamptz;
BEGIN
	SELECT h.* INTO v_head FROM ductstream.stream_heads h WHERE h.stream_id = p_stream_id FOR UPDATE;
	v_now := clock_timestamp();
	WITH events AS (
		INSERT INTO ductstream.stream_events (id, lsn, created_at, end_offset, stream_id, operation, namespace, table_name, wire_format,
			payload)
		SELECT v_head.last_id + row_number() OVER parts, coalesce(p.lsn, p_lsn), v_now,
			v_head.end_offset + sum(octet_length(p.payload)) OVER parts, p_stream_id, p.operation, p.namespace, p.table_name,
			p.wire_format, p.payload
		FROM (
			SELECT part, lsn, operation, namespace, table_name, wire_format, payload FROM ductstream.stream_ingest_parts
			WHERE flow = p_flow AND stream_id = p_stream_id
			UNION ALL
			SELECT p_part, p_row_lsn, p_operation, p_namespace, p_table, p_format, p_payload WHERE octet_length(p_payload) > 0
		) p
		WINDOW parts AS (ORDER BY p.part)
		RETURNING id, end_offset)
	UPDATE ductstream.stream_heads h SET last_id = e.last_id, end_offset = e.end_offset
		FROM (SELECT max(id) AS last_id, max(end_offset) AS end_offset FROM events) e
		WHERE h.stream_id = p_stream_id AND e.last_id IS NOT NULL;
	DELETE FROM ductstream.stream_ingest_parts p WHERE p.flow = p_flow AND p.stream_id = p_stream_id;
	PERFORM ductstream.stream_wake(p_stream_id);
END $$;

-- Takes a part; with p_last the batch. The commit of a part does not wait for the disk: one that is lost is missed by its successor, which the
-- sender is told. p_row_lsn: of the payload's last record; NULL: where the batch ends. The answer has the flow's row as it is then.
CREATE FUNCTION ductstream.stream_ingest(p_flow text, p_stream text, p_epoch int8, p_batch int8, p_part int, p_last bool, p_lsn pg_lsn,
	p_timestamp_ms int8, p_metadata jsonb, p_row_lsn pg_lsn, p_operation text, p_namespace text, p_table text, p_format text, p_payload bytea,
	OUT outcome text, OUT epoch int8, OUT batch int8, OUT parts int, OUT lsn pg_lsn, OUT stream_id int) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
	v_ingest ductstream.stream_ingests := ductstream.stream_ingest_lock(p_flow, p_stream);
BEGIN
	PERFORM pg_catalog.set_config('synchronous_commit', CASE WHEN p_last THEN 'on' ELSE 'off' END, true)
		WHERE NOT p_last OR pg_catalog.current_setting('synchronous_commit') <> 'remote_apply';
	outcome := ductstream.stream_ingest_judge(v_ingest, p_epoch, p_batch, p_part, p_last, p_lsn,
		coalesce(p_metadata->>'state' = 'copying', false));
	IF outcome = 'take' AND p_part = 1 AND v_ingest.parts > 0 THEN
		DELETE FROM ductstream.stream_ingest_parts p WHERE p.flow = p_flow AND p.stream_id = v_ingest.stream_id;
	END IF;
	IF outcome = 'take' AND p_last THEN
		IF v_ingest.parts > 0 OR octet_length(p_payload) > 0 THEN
			PERFORM ductstream.stream_ingest_append(p_flow, v_ingest.stream_id, p_lsn, p_part, p_row_lsn, p_operation, p_namespace,
				p_table, p_format, p_payload);
		END IF;
		UPDATE ductstream.stream_ingests i SET batch = i.batch + 1, parts = 0, lsn = p_lsn, timestamp_ms = p_timestamp_ms,
			metadata = p_metadata, updated_at = clock_timestamp()
			WHERE i.flow = p_flow AND i.stream_id = v_ingest.stream_id RETURNING i.* INTO v_ingest;
	ELSIF outcome = 'take' THEN
		INSERT INTO ductstream.stream_ingest_parts (flow, stream_id, part, lsn, operation, namespace, table_name, wire_format, payload)
			VALUES (p_flow, v_ingest.stream_id, p_part, p_row_lsn, p_operation, p_namespace, p_table, p_format, p_payload);
		UPDATE ductstream.stream_ingests i SET parts = p_part WHERE i.flow = p_flow AND i.stream_id = v_ingest.stream_id
			RETURNING i.* INTO v_ingest;
	END IF;
	epoch := v_ingest.epoch;
	batch := v_ingest.batch;
	parts := v_ingest.parts;
	lsn := v_ingest.lsn;
	stream_id := v_ingest.stream_id;
END $$;
