-- Handing out and settling. All time is this server's clock, read after locks are held. A pull and whatever cuts a range hold the group's
-- row; an acknowledgement of whole ranges deletes them and holds nothing else.

CREATE FUNCTION ductstream.stream_find(p_stream text) RETURNS ductstream.streams LANGUAGE plpgsql STABLE AS $$
DECLARE
	v_stream ductstream.streams;
BEGIN
	SELECT * INTO v_stream FROM ductstream.streams s WHERE s.name = p_stream;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'stream "%": there is none', p_stream USING ERRCODE = 'DS001';
	END IF;
	RETURN v_stream;
END $$;

CREATE FUNCTION ductstream.stream_find_group(p_stream text, p_group text) RETURNS ductstream.stream_groups LANGUAGE plpgsql STABLE AS $$
DECLARE
	v_group ductstream.stream_groups;
BEGIN
	SELECT g.* INTO v_group FROM ductstream.streams s JOIN ductstream.stream_groups g USING (stream_id)
		WHERE s.name = p_stream AND g.name = p_group;
	IF NOT FOUND THEN
		PERFORM ductstream.stream_find(p_stream);
		RAISE EXCEPTION 'stream "%" has no group "%": a group is made by its first pull', p_stream, p_group USING ERRCODE = 'DS002';
	END IF;
	RETURN v_group;
END $$;

-- The group, locked until the transaction ends.
CREATE FUNCTION ductstream.stream_lock_group(p_stream text, p_group text) RETURNS ductstream.stream_groups LANGUAGE plpgsql AS $$
DECLARE
	v_group ductstream.stream_groups := ductstream.stream_find_group(p_stream, p_group);
BEGIN
	SELECT g.* INTO v_group FROM ductstream.stream_groups g WHERE g.group_id = v_group.group_id FOR UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'stream "%": group "%" was deleted meanwhile', p_stream, p_group USING ERRCODE = 'DS002';
	END IF;
	RETURN v_group;
END $$;

CREATE FUNCTION ductstream.stream_make_group(p_stream text, p_group text) RETURNS void LANGUAGE sql AS $$
	INSERT INTO ductstream.stream_groups (stream_id, name, next_id, ordered, max_attempts)
	SELECT s.stream_id, p_group, s.first_id, s.ordered, s.max_attempts FROM ductstream.stream_find(p_stream) s
	WHERE NOT EXISTS (SELECT 1 FROM ductstream.stream_groups g WHERE g.stream_id = s.stream_id AND g.name = p_group)
	ON CONFLICT (stream_id, name) DO NOTHING
$$;

CREATE FUNCTION ductstream.stream_wake(p_stream_id int) RETURNS void LANGUAGE sql AS $$
	SELECT pg_catalog.pg_notify('ductstream_stream', s.name) FROM ductstream.streams s WHERE s.stream_id = p_stream_id
$$;

-- Bytes of payload before an event.
CREATE FUNCTION ductstream.stream_offset(p_stream_id int, p_id int8) RETURNS int8 LANGUAGE sql STABLE AS $$
	SELECT e.end_offset - octet_length(e.payload) FROM ductstream.stream_events e WHERE e.stream_id = p_stream_id AND e.id = p_id
$$;

-- How much of p_first .. p_last has at most p_bytes of payload.
CREATE FUNCTION ductstream.stream_fit(p_stream_id int, p_first int8, p_last int8, p_bytes int8, OUT last_id int8, OUT bytes int8)
LANGUAGE plpgsql STABLE AS $$
DECLARE
	v_base int8 := ductstream.stream_offset(p_stream_id, p_first);
BEGIN
	last_id := p_last;
	bytes := (SELECT e.end_offset - v_base FROM ductstream.stream_events e WHERE e.stream_id = p_stream_id AND e.id = p_last);
	IF bytes > p_bytes THEN
		SELECT e.id - 1 INTO last_id FROM ductstream.stream_events e
			WHERE e.stream_id = p_stream_id AND e.id BETWEEN p_first AND p_last AND e.end_offset > v_base + p_bytes
			ORDER BY e.id LIMIT 1;
		bytes := p_bytes;
	END IF;
	bytes := coalesce(bytes, 0);
END $$;

-- Events that were handed out too often are set aside.
CREATE FUNCTION ductstream.stream_bury(p_group_id int, p_first int8, p_last int8, p_attempts int, p_reason text) RETURNS void
LANGUAGE sql AS $$
	INSERT INTO ductstream.stream_dead_letters (group_id, id, attempts, dead_at, reason)
	SELECT p_group_id, i, p_attempts, clock_timestamp(), coalesce(p_reason, 'not acknowledged in time')
	FROM generate_series(p_first, p_last) i
	ON CONFLICT (group_id, id) DO UPDATE SET attempts = excluded.attempts, dead_at = excluded.dead_at, reason = excluded.reason
$$;

-- Makes ranges of a group, all alike.
CREATE FUNCTION ductstream.stream_put(p_group_id int, p_ids int8multirange, p_visible_at timestamptz, p_claim uuid, p_attempts int,
	p_consumer text, p_reason text) RETURNS void LANGUAGE sql AS $$
	INSERT INTO ductstream.stream_deliveries (group_id, first_id, last_id, visible_at, claim, attempts, consumer_id, reason)
	SELECT p_group_id, lower(r), upper(r) - 1, p_visible_at, p_claim, p_attempts, p_consumer, p_reason FROM unnest(p_ids) r
$$;

-- Where the order per key holds: no event goes out whose key an earlier open one has, and only one of a key at a time. p_group is locked.
CREATE FUNCTION ductstream.stream_pull_ordered(p_group ductstream.stream_groups, p_first_id int8, p_last_id int8, p_max int,
	p_bytes int8, p_visible float8, p_consumer text)
RETURNS TABLE (claim uuid, visible_until timestamptz, stream_id int, first_id int8, last_id int8, attempts int) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
	c_window constant int := 10000;
	v_now timestamptz;
	v_until timestamptz;
	v_claim uuid := gen_random_uuid();
	v_open int8;
	v_next int8 := greatest(p_group.next_id, p_first_id);
	v_ahead int8;
	v_picks int8multirange;
	v_hits int8multirange;
	v_front int8;
	r record;
BEGIN
	v_now := clock_timestamp();
	v_until := v_now + make_interval(secs => p_visible);
	-- An acknowledgement that is under way has been counted after this.
	PERFORM 1 FROM ductstream.stream_deliveries d WHERE d.group_id = p_group.group_id AND d.visible_at <= v_now
		ORDER BY d.first_id FOR UPDATE;
	FOR r IN DELETE FROM ductstream.stream_deliveries d
		WHERE d.group_id = p_group.group_id AND d.visible_at <= v_now AND p_group.max_attempts > 0
			AND d.attempts >= p_group.max_attempts RETURNING d.* LOOP
		PERFORM ductstream.stream_bury(p_group.group_id, r.first_id, r.last_id, r.attempts, r.reason);
	END LOOP;
	SELECT coalesce(sum(d.last_id - d.first_id + 1), 0) INTO v_open FROM ductstream.stream_deliveries d
		WHERE d.group_id = p_group.group_id AND d.visible_at <= v_now;
	v_ahead := least(p_last_id, v_next + least(4 * p_max, c_window - v_open) - 1);
	WITH held AS MATERIALIZED (
		SELECT k.hash FROM ductstream.stream_deliveries d
		CROSS JOIN LATERAL (SELECT e.key_hash, e.old_key_hash FROM ductstream.stream_events e
			WHERE e.stream_id = p_group.stream_id AND e.id BETWEEN d.first_id AND d.last_id ORDER BY e.id LIMIT c_window) e
		CROSS JOIN LATERAL (VALUES (e.key_hash), (e.old_key_hash)) k (hash)
		WHERE d.group_id = p_group.group_id AND d.visible_at > v_now AND k.hash IS NOT NULL
	), known AS (
		SELECT e.* FROM ductstream.stream_deliveries d
		CROSS JOIN LATERAL (SELECT e.id, e.key_hash, e.old_key_hash, octet_length(e.payload) AS n FROM ductstream.stream_events e
			WHERE e.stream_id = p_group.stream_id AND e.id BETWEEN d.first_id AND d.last_id ORDER BY e.id LIMIT c_window) e
		WHERE d.group_id = p_group.group_id AND d.visible_at <= v_now ORDER BY d.first_id, e.id LIMIT c_window
	), open AS MATERIALIZED (
		SELECT * FROM known
		UNION ALL
		(SELECT e.id, e.key_hash, e.old_key_hash, octet_length(e.payload) FROM ductstream.stream_events e
			WHERE e.stream_id = p_group.stream_id AND e.id BETWEEN v_next AND v_ahead ORDER BY e.id LIMIT c_window)
	), keyed AS (
		SELECT o.id, k.hash, row_number() OVER (PARTITION BY k.hash ORDER BY o.id) AS nth
		FROM open o CROSS JOIN LATERAL (VALUES (o.key_hash), (o.old_key_hash)) k (hash) WHERE k.hash IS NOT NULL
	), blocked AS MATERIALIZED (
		SELECT id FROM keyed WHERE nth > 1 OR hash IN (SELECT hash FROM held)
	), free AS (
		SELECT o.id, sum(o.n) OVER (ORDER BY o.id) AS size, row_number() OVER (ORDER BY o.id) AS nth
		FROM open o WHERE o.id NOT IN (SELECT id FROM blocked)
	)
	SELECT range_agg(int8range(f.id, f.id, '[]')) INTO v_picks FROM free f WHERE f.nth <= p_max AND (f.size <= p_bytes OR f.nth = 1);
	IF v_picks IS NULL THEN
		RETURN;
	END IF;
	FOR r IN SELECT d.* FROM ductstream.stream_deliveries d WHERE d.group_id = p_group.group_id AND d.visible_at <= v_now
		AND int8range(d.first_id, d.last_id, '[]') && v_picks LOOP
		DELETE FROM ductstream.stream_deliveries d WHERE d.group_id = p_group.group_id AND d.first_id = r.first_id;
		v_hits := int8multirange(int8range(r.first_id, r.last_id, '[]')) * v_picks;
		PERFORM ductstream.stream_put(p_group.group_id, int8multirange(int8range(r.first_id, r.last_id, '[]')) - v_picks,
			r.visible_at, NULL, r.attempts, NULL, r.reason);
		PERFORM ductstream.stream_put(p_group.group_id, v_hits, v_until, v_claim, r.attempts + 1, p_consumer, r.reason);
		RETURN QUERY SELECT v_claim, v_until, p_group.stream_id, lower(h), upper(h) - 1, r.attempts + 1 FROM unnest(v_hits) h;
	END LOOP;
	v_front := upper(v_picks) - 1;
	IF v_front >= v_next THEN
		v_hits := int8multirange(int8range(v_next, v_front, '[]')) * v_picks;
		PERFORM ductstream.stream_put(p_group.group_id, int8multirange(int8range(v_next, v_front, '[]')) - v_picks, v_now, NULL, 0,
			NULL, NULL);
		PERFORM ductstream.stream_put(p_group.group_id, v_hits, v_until, v_claim, 1, p_consumer, NULL);
		RETURN QUERY SELECT v_claim, v_until, p_group.stream_id, lower(h), upper(h) - 1, 1 FROM unnest(v_hits) h;
	END IF;
	UPDATE ductstream.stream_groups g SET next_id = greatest(v_front + 1, v_next), used_at = v_now WHERE g.group_id = p_group.group_id;
END $$;

-- Hands out up to p_max events of at most p_bytes together (one at least) for p_visible seconds, those that came back first. Its commit does
-- not wait for the disk, as the next pull would wait with it: before anybody is shown the events, a transaction that does must follow.
CREATE FUNCTION ductstream.stream_pull(p_stream text, p_group text, p_max int, p_bytes int8, p_visible float8, p_consumer text)
RETURNS TABLE (claim uuid, visible_until timestamptz, stream_id int, first_id int8, last_id int8, attempts int) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
	v_group ductstream.stream_groups;
	v_left int := p_max;
	v_bytes int8 := p_bytes;
	v_first_id int8;
	v_last_id int8;
	v_next int8;
	v_fit record;
	v_now timestamptz;
	r record;
BEGIN
	PERFORM pg_catalog.set_config('synchronous_commit', 'off', true);
	SELECT g.* INTO v_group FROM ductstream.streams s JOIN ductstream.stream_groups g USING (stream_id)
		WHERE s.name = p_stream AND g.name = p_group FOR UPDATE OF g;
	IF NOT FOUND THEN
		PERFORM ductstream.stream_make_group(p_stream, p_group);
		v_group := ductstream.stream_lock_group(p_stream, p_group);
	END IF;
	SELECT s.first_id, h.last_id INTO v_first_id, v_last_id FROM ductstream.streams s JOIN ductstream.stream_heads h USING (stream_id)
		WHERE s.stream_id = v_group.stream_id;
	IF v_group.ordered THEN
		RETURN QUERY SELECT * FROM ductstream.stream_pull_ordered(v_group, v_first_id, v_last_id, p_max, p_bytes, p_visible, p_consumer);
		RETURN;
	END IF;
	v_now := clock_timestamp();
	claim := gen_random_uuid();
	visible_until := v_now + make_interval(secs => p_visible);
	stream_id := v_group.stream_id;
	-- A range that is locked is being acknowledged.
	FOR r IN SELECT d.* FROM ductstream.stream_deliveries d WHERE d.group_id = v_group.group_id AND d.visible_at <= v_now
		ORDER BY d.first_id LIMIT p_max FOR UPDATE SKIP LOCKED LOOP
		EXIT WHEN v_left <= 0;
		IF v_group.max_attempts > 0 AND r.attempts >= v_group.max_attempts THEN
			PERFORM ductstream.stream_bury(v_group.group_id, r.first_id, r.last_id, r.attempts, r.reason);
			DELETE FROM ductstream.stream_deliveries d WHERE d.group_id = v_group.group_id AND d.first_id = r.first_id;
			CONTINUE;
		END IF;
		v_fit := ductstream.stream_fit(v_group.stream_id, r.first_id, least(r.last_id, r.first_id + v_left - 1), v_bytes);
		IF v_fit.last_id < r.first_id THEN
			EXIT WHEN v_left < p_max;
			v_fit.last_id := r.first_id;
		END IF;
		first_id := r.first_id;
		last_id := v_fit.last_id;
		attempts := r.attempts + 1;
		IF last_id < r.last_id THEN
			UPDATE ductstream.stream_deliveries d SET first_id = v_fit.last_id + 1
				WHERE d.group_id = v_group.group_id AND d.first_id = r.first_id;
			INSERT INTO ductstream.stream_deliveries (group_id, first_id, last_id, visible_at, claim, attempts, consumer_id, reason)
				VALUES (v_group.group_id, r.first_id, v_fit.last_id, visible_until, claim, r.attempts + 1, p_consumer, r.reason);
		ELSE
			UPDATE ductstream.stream_deliveries d SET visible_at = visible_until, claim = stream_pull.claim, attempts = r.attempts + 1,
				consumer_id = p_consumer WHERE d.group_id = v_group.group_id AND d.first_id = r.first_id;
		END IF;
		RETURN NEXT;
		v_left := v_left - (last_id - first_id + 1)::int;
		v_bytes := v_bytes - v_fit.bytes;
		EXIT WHEN v_bytes <= 0;
	END LOOP;
	v_next := greatest(v_group.next_id, v_first_id);
	IF v_left > 0 AND v_bytes > 0 AND v_next <= v_last_id THEN
		v_fit := ductstream.stream_fit(v_group.stream_id, v_next, least(v_last_id, v_next + v_left - 1), v_bytes);
		IF v_fit.last_id < v_next AND v_left = p_max THEN
			v_fit.last_id := v_next;
		END IF;
		IF v_fit.last_id >= v_next THEN
			first_id := v_next;
			last_id := v_fit.last_id;
			attempts := 1;
			INSERT INTO ductstream.stream_deliveries (group_id, first_id, last_id, visible_at, claim, attempts, consumer_id)
				VALUES (v_group.group_id, first_id, last_id, visible_until, claim, 1, p_consumer);
			UPDATE ductstream.stream_groups g SET next_id = v_fit.last_id + 1, used_at = v_now WHERE g.group_id = v_group.group_id;
			RETURN NEXT;
			RETURN;
		END IF;
	END IF;
	IF v_group.used_at < v_now - interval '1 minute' THEN
		UPDATE ductstream.stream_groups g SET used_at = v_now WHERE g.group_id = v_group.group_id;
	END IF;
END $$;

-- Seconds until something of the group comes back by the clock; NULL: nothing is out.
CREATE FUNCTION ductstream.stream_next_visible(p_stream text, p_group text) RETURNS float8 LANGUAGE sql STABLE AS $$
	SELECT extract(epoch FROM min(d.visible_at) - clock_timestamp())::float8
	FROM ductstream.stream_find_group(p_stream, p_group) g JOIN ductstream.stream_deliveries d USING (group_id)
$$;

-- Acknowledges ranges that are wholly named: by their claim, by ids, or both. What is named in part is left to stream_settle.
CREATE FUNCTION ductstream.stream_ack(p_stream text, p_group text, p_claim uuid, p_ids int8multirange) RETURNS int8 LANGUAGE plpgsql AS $$
DECLARE
	v_group ductstream.stream_groups := ductstream.stream_find_group(p_stream, p_group);
	v_n int8;
BEGIN
	IF p_claim IS NOT NULL THEN
		WITH gone AS (DELETE FROM ductstream.stream_deliveries d
			WHERE d.claim = p_claim AND d.group_id = v_group.group_id AND d.visible_at > clock_timestamp()
				AND (p_ids IS NULL OR int8range(d.first_id, d.last_id, '[]') <@ p_ids) RETURNING d.first_id, d.last_id)
		SELECT coalesce(sum(gone.last_id - gone.first_id + 1), 0) INTO v_n FROM gone;
	ELSE
		WITH gone AS (DELETE FROM ductstream.stream_deliveries d
			WHERE d.group_id = v_group.group_id AND d.first_id >= lower(p_ids) AND d.first_id < upper(p_ids) AND d.claim IS NOT NULL
				AND d.visible_at > clock_timestamp() AND int8range(d.first_id, d.last_id, '[]') <@ p_ids
			RETURNING d.first_id, d.last_id)
		SELECT coalesce(sum(gone.last_id - gone.first_id + 1), 0) INTO v_n FROM gone;
	END IF;
	IF v_group.ordered AND v_n > 0 THEN
		PERFORM ductstream.stream_wake(v_group.stream_id);
	END IF;
	RETURN v_n;
END $$;

-- ack, nack (comes back after p_seconds, or is set aside), extend (held for p_seconds from now), release (as if never handed out), of what
-- a live claim of the group has. p_ids NULL: all of the claim.
CREATE FUNCTION ductstream.stream_settle(p_stream text, p_group text, p_claim uuid, p_ids int8multirange, p_action text, p_seconds float8,
	p_reason text, OUT settled int8, OUT dead int8, OUT visible_at timestamptz) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
	v_group ductstream.stream_groups := ductstream.stream_lock_group(p_stream, p_group);
	v_ids int8multirange := coalesce(p_ids, '{(,)}');
	v_now timestamptz := clock_timestamp();
	v_row int8multirange;
	v_hits int8multirange;
	v_n int8;
	r record;
BEGIN
	settled := 0;
	dead := 0;
	stream_settle.visible_at := v_now + make_interval(secs => p_seconds);
	FOR r IN SELECT d.* FROM ductstream.stream_deliveries d WHERE d.group_id = v_group.group_id AND d.claim IS NOT NULL
		AND (p_claim IS NULL OR d.claim = p_claim) AND int8range(d.first_id, d.last_id, '[]') && v_ids
		ORDER BY d.first_id FOR UPDATE LOOP
		CONTINUE WHEN r.visible_at <= clock_timestamp();
		v_row := int8multirange(int8range(r.first_id, r.last_id, '[]'));
		v_hits := v_row * v_ids;
		v_n := (SELECT sum(upper(h) - lower(h)) FROM unnest(v_hits) h);
		DELETE FROM ductstream.stream_deliveries d WHERE d.group_id = v_group.group_id AND d.first_id = r.first_id;
		PERFORM ductstream.stream_put(v_group.group_id, v_row - v_hits, r.visible_at, r.claim, r.attempts, r.consumer_id, r.reason);
		settled := settled + v_n;
		IF p_action = 'nack' AND v_group.max_attempts > 0 AND r.attempts >= v_group.max_attempts THEN
			PERFORM ductstream.stream_bury(v_group.group_id, lower(h), upper(h) - 1, r.attempts, coalesce(p_reason, 'given back'))
				FROM unnest(v_hits) h;
			dead := dead + v_n;
		ELSIF p_action = 'nack' THEN
			PERFORM ductstream.stream_put(v_group.group_id, v_hits, stream_settle.visible_at, NULL, r.attempts, NULL,
				coalesce(p_reason, r.reason));
		ELSIF p_action = 'release' THEN
			PERFORM ductstream.stream_put(v_group.group_id, v_hits, v_now, NULL, r.attempts - 1, NULL, r.reason);
		ELSIF p_action = 'extend' THEN
			PERFORM ductstream.stream_put(v_group.group_id, v_hits, stream_settle.visible_at, r.claim, r.attempts, r.consumer_id, r.reason);
		END IF;
	END LOOP;
	IF settled > 0 AND p_action <> 'extend' THEN
		PERFORM ductstream.stream_wake(v_group.stream_id);
	END IF;
END $$;

-- Settled events of the group at or after an LSN and a moment become open again. What somebody holds stays with them.
CREATE FUNCTION ductstream.stream_replay(p_stream text, p_group text, p_from pg_lsn, p_since timestamptz) RETURNS int8 LANGUAGE plpgsql AS $$
DECLARE
	v_group ductstream.stream_groups := ductstream.stream_lock_group(p_stream, p_group);
	v_stream ductstream.streams := ductstream.stream_find(p_stream);
	v_open int8multirange;
	v_again int8multirange;
	v_n int8;
BEGIN
	SELECT coalesce(range_agg(int8range(d.first_id, d.last_id, '[]')), '{}') INTO v_open FROM ductstream.stream_deliveries d
		WHERE d.group_id = v_group.group_id;
	IF p_from IS NULL AND p_since IS NULL THEN
		v_again := int8multirange(int8range(v_stream.first_id, greatest(v_group.next_id, v_stream.first_id)));
	ELSE
		SELECT coalesce(range_agg(int8range(i.first_id, i.last_id, '[]')), '{}') INTO v_again FROM (
			SELECT min(m.id) AS first_id, max(m.id) AS last_id FROM (
				SELECT e.id, e.id - row_number() OVER (ORDER BY e.id) AS island FROM ductstream.stream_events e
				WHERE e.stream_id = v_group.stream_id AND e.id >= v_stream.first_id AND e.id < v_group.next_id
					AND (p_from IS NULL OR e.lsn >= p_from) AND (p_since IS NULL OR e.created_at >= p_since)) m
			GROUP BY m.island) i;
	END IF;
	v_again := v_again - v_open;
	SELECT coalesce(sum(upper(a) - lower(a)), 0) INTO v_n FROM unnest(v_again) a;
	PERFORM ductstream.stream_put(v_group.group_id, v_again, clock_timestamp(), NULL, 0, NULL, NULL);
	DELETE FROM ductstream.stream_dead_letters l WHERE l.group_id = v_group.group_id AND l.id <@ v_again;
	IF v_n > 0 THEN
		PERFORM ductstream.stream_wake(v_group.stream_id);
	END IF;
	RETURN v_n;
END $$;
