-- Groups as operators see them, dead letters, retention.

CREATE FUNCTION ductstream.stream_list_groups(p_stream text, p_group text)
RETURNS TABLE (group_name text, next_id int8, ordered bool, max_attempts int, created_at timestamptz, used_at timestamptz,
	lag_messages int8, lag_bytes int8, lag_seconds float8, in_flight int8, waiting int8, dead_letters int8) LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
DECLARE
	v_stream ductstream.streams := ductstream.stream_find(p_stream);
BEGIN
	RETURN QUERY
	SELECT g.name, front.id, g.ordered, g.max_attempts, g.created_at, g.used_at,
		h.last_id - front.id + 1 + out.in_flight + out.waiting,
		CASE WHEN front.id > h.last_id THEN 0 ELSE h.end_offset - ductstream.stream_offset(g.stream_id, front.id) END + out.bytes,
		coalesce(extract(epoch FROM clock_timestamp() - (SELECT e.created_at FROM ductstream.stream_events e
			WHERE e.stream_id = g.stream_id AND e.id = least(front.id, out.oldest)))::float8, 0),
		out.in_flight, out.waiting,
		(SELECT count(*) FROM ductstream.stream_dead_letters l WHERE l.group_id = g.group_id)
	FROM ductstream.stream_groups g JOIN ductstream.stream_heads h USING (stream_id)
	CROSS JOIN LATERAL (SELECT greatest(g.next_id, v_stream.first_id) AS id) front
	CROSS JOIN LATERAL (
		SELECT coalesce(sum(d.last_id - d.first_id + 1) FILTER (WHERE d.claim IS NOT NULL AND d.visible_at > clock_timestamp()), 0)::int8
				AS in_flight,
			coalesce(sum(d.last_id - d.first_id + 1) FILTER (WHERE d.claim IS NULL OR d.visible_at <= clock_timestamp()), 0)::int8
				AS waiting,
			coalesce(sum((SELECT e.end_offset FROM ductstream.stream_events e WHERE e.stream_id = g.stream_id AND e.id = d.last_id)
				- ductstream.stream_offset(g.stream_id, d.first_id)), 0)::int8 AS bytes,
			min(d.first_id) AS oldest
		FROM ductstream.stream_deliveries d WHERE d.group_id = g.group_id) out
	WHERE g.stream_id = v_stream.stream_id AND (p_group IS NULL OR g.name = p_group)
	ORDER BY g.name;
END $$;

-- NULL: as it is. p_start: where a group begins that is made by this call: beginning, end.
CREATE FUNCTION ductstream.stream_configure_group(p_stream text, p_group text, p_ordered bool, p_max_attempts int, p_start text)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	v_stream ductstream.streams := ductstream.stream_find(p_stream);
	v_new bool := NOT EXISTS (SELECT 1 FROM ductstream.stream_groups g WHERE g.stream_id = v_stream.stream_id AND g.name = p_group);
BEGIN
	PERFORM ductstream.stream_make_group(p_stream, p_group);
	UPDATE ductstream.stream_groups g SET ordered = coalesce(p_ordered, g.ordered), max_attempts = coalesce(p_max_attempts, g.max_attempts),
		next_id = CASE WHEN v_new AND p_start = 'end'
			THEN (SELECT h.last_id + 1 FROM ductstream.stream_heads h WHERE h.stream_id = g.stream_id) ELSE g.next_id END
	WHERE g.stream_id = v_stream.stream_id AND g.name = p_group;
END $$;

CREATE FUNCTION ductstream.stream_delete_group(p_stream text, p_group text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	v_group ductstream.stream_groups := ductstream.stream_lock_group(p_stream, p_group);
BEGIN
	DELETE FROM ductstream.stream_deliveries d WHERE d.group_id = v_group.group_id;
	DELETE FROM ductstream.stream_dead_letters l WHERE l.group_id = v_group.group_id;
	DELETE FROM ductstream.stream_groups g WHERE g.group_id = v_group.group_id;
END $$;

-- Dead letters back to the group (p_again), with their attempts counted anew, or away for good. p_ids NULL: all.
CREATE FUNCTION ductstream.stream_redrive(p_stream text, p_group text, p_ids int8multirange, p_again bool) RETURNS int8 LANGUAGE plpgsql AS $$
DECLARE
	v_group ductstream.stream_groups := ductstream.stream_lock_group(p_stream, p_group);
	v_gone int8multirange;
BEGIN
	WITH gone AS (DELETE FROM ductstream.stream_dead_letters l WHERE l.group_id = v_group.group_id AND (p_ids IS NULL OR l.id <@ p_ids)
		RETURNING l.id)
	SELECT coalesce(range_agg(int8range(gone.id, gone.id, '[]')), '{}') INTO v_gone FROM gone;
	IF p_again AND v_gone <> '{}' THEN
		PERFORM ductstream.stream_put(v_group.group_id, v_gone, clock_timestamp(), NULL, 0, NULL, NULL);
		PERFORM ductstream.stream_wake(v_group.stream_id);
	END IF;
	RETURN (SELECT coalesce(sum(upper(r) - lower(r)), 0) FROM unnest(v_gone) r);
END $$;

-- Raises the stream's first id as far as age, size and groups let it. Events below are then deleted in slices, by stream_trim.
CREATE FUNCTION ductstream.stream_retain(p_stream_id int) RETURNS int8 LANGUAGE plpgsql AS $$
DECLARE
	v_stream ductstream.streams;
	v_head ductstream.stream_heads;
	v_now timestamptz := clock_timestamp();
	v_first int8;
	v_held int8;
BEGIN
	SELECT * INTO v_stream FROM ductstream.streams s WHERE s.stream_id = p_stream_id;
	SELECT * INTO v_head FROM ductstream.stream_heads h WHERE h.stream_id = p_stream_id;
	v_first := v_stream.first_id;
	IF v_stream.retention_age IS NOT NULL THEN
		v_first := coalesce((SELECT e.id FROM ductstream.stream_events e WHERE e.stream_id = p_stream_id AND e.id >= v_first
			AND e.created_at >= v_now - v_stream.retention_age ORDER BY e.id LIMIT 1), v_head.last_id + 1);
	END IF;
	IF v_stream.retention_bytes IS NOT NULL THEN
		v_first := coalesce((SELECT e.id FROM ductstream.stream_events e WHERE e.stream_id = p_stream_id AND e.id >= v_first
			AND e.end_offset - octet_length(e.payload) >= v_head.end_offset - v_stream.retention_bytes ORDER BY e.id LIMIT 1),
			v_head.last_id + 1);
	END IF;
	IF v_first <= v_stream.first_id THEN
		RETURN v_stream.first_id;
	END IF;
	-- Nobody hands out or replays what is about to go.
	PERFORM 1 FROM ductstream.stream_groups g WHERE g.stream_id = p_stream_id ORDER BY g.group_id FOR UPDATE;
	IF NOT v_stream.drop_unacked THEN
		SELECT min(least(g.next_id,
			(SELECT min(d.first_id) FROM ductstream.stream_deliveries d WHERE d.group_id = g.group_id),
			(SELECT min(l.id) FROM ductstream.stream_dead_letters l WHERE l.group_id = g.group_id))) INTO v_held
		FROM ductstream.stream_groups g
		WHERE g.stream_id = p_stream_id AND (v_stream.group_expiry IS NULL OR g.used_at >= v_now - v_stream.group_expiry);
		v_first := least(v_first, v_held);
	END IF;
	IF v_first <= v_stream.first_id THEN
		RETURN v_stream.first_id;
	END IF;
	DELETE FROM ductstream.stream_deliveries d USING ductstream.stream_groups g
		WHERE g.stream_id = p_stream_id AND d.group_id = g.group_id AND d.last_id < v_first;
	UPDATE ductstream.stream_deliveries d SET first_id = v_first FROM ductstream.stream_groups g
		WHERE g.stream_id = p_stream_id AND d.group_id = g.group_id AND d.first_id < v_first;
	DELETE FROM ductstream.stream_dead_letters l USING ductstream.stream_groups g
		WHERE g.stream_id = p_stream_id AND l.group_id = g.group_id AND l.id < v_first;
	UPDATE ductstream.streams s SET first_id = v_first WHERE s.stream_id = p_stream_id;
	RETURN v_first;
END $$;

-- Deletes up to p_most events that retention let go; how many there were.
CREATE FUNCTION ductstream.stream_trim(p_stream_id int, p_most int) RETURNS int8 LANGUAGE sql AS $$
	WITH gone AS (DELETE FROM ductstream.stream_events e WHERE e.stream_id = p_stream_id AND e.id = ANY (ARRAY(
		SELECT o.id FROM ductstream.stream_events o WHERE o.stream_id = p_stream_id
			AND o.id < (SELECT s.first_id FROM ductstream.streams s WHERE s.stream_id = p_stream_id) ORDER BY o.id LIMIT p_most))
		RETURNING 1)
	SELECT count(*) FROM gone
$$;

-- For who appends: locks the flow's checkpoint and the end of the stream, in this order, until the transaction ends. at_us: since 1970.
CREATE FUNCTION ductstream.stream_begin_append(p_flow text, p_stream_id int,
	OUT epoch int8, OUT seq int8, OUT last_id int8, OUT end_offset int8, OUT at_us int8) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
	SELECT c.epoch, c.seq INTO stream_begin_append.epoch, stream_begin_append.seq FROM ductstream.stream_checkpoints c
		WHERE c.flow = p_flow AND c.stream_id = p_stream_id FOR UPDATE;
	SELECT h.last_id, h.end_offset INTO stream_begin_append.last_id, stream_begin_append.end_offset FROM ductstream.stream_heads h
		WHERE h.stream_id = p_stream_id FOR UPDATE;
	at_us := (extract(epoch FROM clock_timestamp()) * 1000000)::int8;
END $$;
