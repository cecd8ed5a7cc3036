-- A group with order per key is in use while somebody asks for messages, also when there are none: retention holds them back for it.

ALTER FUNCTION ductstream.stream_pull_ordered(ductstream.stream_groups, int8, int8, int, int8, float8, text) RENAME TO stream_pick_ordered;

CREATE FUNCTION ductstream.stream_pull_ordered(p_group ductstream.stream_groups, p_first_id int8, p_last_id int8, p_max int,
	p_bytes int8, p_visible float8, p_consumer text)
RETURNS TABLE (claim uuid, visible_until timestamptz, stream_id int, first_id int8, last_id int8, attempts int) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
	RETURN QUERY SELECT * FROM ductstream.stream_pick_ordered(p_group, p_first_id, p_last_id, p_max, p_bytes, p_visible, p_consumer);
	IF NOT FOUND AND p_group.used_at < clock_timestamp() - interval '1 minute' THEN
		UPDATE ductstream.stream_groups g SET used_at = clock_timestamp() WHERE g.group_id = p_group.group_id;
	END IF;
END $$;

-- Raises the stream's first id as far as age, size and groups let it. Events below are then deleted in slices, by stream_trim.
CREATE OR REPLACE FUNCTION ductstream.stream_retain(p_stream_id int) RETURNS int8 LANGUAGE plpgsql AS $$
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
	-- Somebody who kept less may have raised it meanwhile.
	UPDATE ductstream.streams s SET first_id = greatest(s.first_id, v_first) WHERE s.stream_id = p_stream_id
		RETURNING s.first_id INTO v_first;
	RETURN v_first;
END $$;
