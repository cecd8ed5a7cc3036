-- A part that comes late is told apart from the one that is here under its number.

DROP FUNCTION ductstream.stream_ingest_judge(ductstream.stream_ingests, int8, int8, int, bool, pg_lsn, bool);

-- What is to be done with part p_part of batch p_batch (NULL: batches are not numbered, the position tells them apart):
--   take     it is next, or begins the batch anew
--   repeat   it is here already
--   fenced   somebody else sends
--   gap      something before it is missing, or another part is here under its number: of a call that was given up, and came late
--   behind   its position is not that of the batch, or lies below what is here
-- p_same: it is a part that is here, byte for byte.
CREATE FUNCTION ductstream.stream_ingest_judge(p_ingest ductstream.stream_ingests, p_epoch int8, p_batch int8, p_part int, p_last bool,
	p_lsn pg_lsn, p_copying bool, p_same bool) RETURNS text LANGUAGE sql IMMUTABLE AS $$
	SELECT CASE
		WHEN p_epoch <> p_ingest.epoch THEN 'fenced'
		WHEN p_batch IS NULL AND p_part = 1 AND p_last THEN
			CASE WHEN p_ingest.metadata IS NOT NULL AND p_lsn <= p_ingest.lsn THEN 'repeat' ELSE 'take' END
		WHEN p_batch = p_ingest.batch AND p_last AND p_lsn <> p_ingest.lsn THEN 'behind'
		WHEN p_batch <= p_ingest.batch THEN CASE WHEN p_last AND p_lsn > p_ingest.lsn THEN 'behind' ELSE 'repeat' END
		WHEN p_batch > p_ingest.batch + 1 THEN 'gap'
		WHEN p_part <= p_ingest.parts AND p_same AND NOT p_last THEN 'repeat'
		WHEN p_part > p_ingest.parts + 1 OR p_part BETWEEN 2 AND p_ingest.parts THEN 'gap'
		WHEN p_last AND p_lsn < p_ingest.lsn AND NOT p_copying THEN 'behind'
		ELSE 'take'
	END
$$;

-- Takes a part; with p_last the batch. The commit of a part does not wait for the disk: one that is lost is missed by its successor, which the
-- sender is told. p_row_lsn: of the payload's last record; NULL: where the batch ends. The answer has the flow's row as it is then.
CREATE OR REPLACE FUNCTION ductstream.stream_ingest(p_flow text, p_stream text, p_epoch int8, p_batch int8, p_part int, p_last bool, p_lsn pg_lsn,
	p_timestamp_ms int8, p_metadata jsonb, p_row_lsn pg_lsn, p_operation text, p_namespace text, p_table text, p_format text, p_payload bytea,
	OUT outcome text, OUT epoch int8, OUT batch int8, OUT parts int, OUT lsn pg_lsn, OUT stream_id int) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
	v_ingest ductstream.stream_ingests := ductstream.stream_ingest_lock(p_flow, p_stream);
BEGIN
	PERFORM pg_catalog.set_config('synchronous_commit', CASE WHEN p_last THEN 'on' ELSE 'off' END, true)
		WHERE NOT p_last OR pg_catalog.current_setting('synchronous_commit') <> 'remote_apply';
	outcome := ductstream.stream_ingest_judge(v_ingest, p_epoch, p_batch, p_part, p_last, p_lsn,
		coalesce(p_metadata->>'state' = 'copying', false),
		p_part <= v_ingest.parts AND EXISTS (SELECT FROM ductstream.stream_ingest_parts p WHERE p.flow = p_flow
			AND p.stream_id = v_ingest.stream_id AND p.part = p_part AND p.payload = p_payload
			AND (p.operation, p.namespace, p.table_name, p.wire_format) = (p_operation, p_namespace, p_table, p_format)));
	IF p_part <= v_ingest.parts AND (outcome = 'take' OR outcome = 'gap' AND p_batch = v_ingest.batch + 1) THEN
		DELETE FROM ductstream.stream_ingest_parts p WHERE p.flow = p_flow AND p.stream_id = v_ingest.stream_id;
		UPDATE ductstream.stream_ingests i SET parts = 0 WHERE i.flow = p_flow AND i.stream_id = v_ingest.stream_id
			RETURNING i.* INTO v_ingest;
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
