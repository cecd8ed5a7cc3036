-- Streams inside a Postgres: what the destination pgstream writes and StreamService reads. docs/pgstream.md says how they are used.
-- The order of the columns keeps rows small; names and order are those of COPY in src/destination/pgstream.

CREATE TABLE ductstream.streams (
	stream_id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	name text NOT NULL UNIQUE,
	-- Events below are gone, or about to be: retention raises it first and deletes afterwards.
	first_id int8 NOT NULL DEFAULT 1,
	-- NULL: no limit
	retention_age interval,
	retention_bytes int8,
	-- Groups that were not used for so long do not hold events back. NULL: every group does.
	group_expiry interval,
	-- Events go by age and size even when a group has not acknowledged them.
	drop_unacked bool NOT NULL DEFAULT false,
	-- What new groups begin with.
	ordered bool NOT NULL DEFAULT false,
	max_attempts int NOT NULL DEFAULT 0,
	created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The end of each stream. Who appends holds its lock from taking ids to the commit, so ids become visible in their order, without gaps.
CREATE TABLE ductstream.stream_heads (
	stream_id int PRIMARY KEY,
	last_id int8 NOT NULL DEFAULT 0,
	end_offset int8 NOT NULL DEFAULT 0
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

CREATE TABLE ductstream.stream_events (
	id int8 NOT NULL,
	lsn pg_lsn NOT NULL,
	created_at timestamptz NOT NULL,
	-- Bytes of payload in the stream up to and with this event.
	end_offset int8 NOT NULL,
	-- Of the row's key and its table; NULL: no order. The second one when the key changed.
	key_hash int8,
	old_key_hash int8,
	stream_id int NOT NULL,
	registry_version int,
	operation text NOT NULL,
	namespace text NOT NULL,
	table_name text NOT NULL,
	wire_format text NOT NULL,
	registry_subject text,
	registry_id text,
	payload bytea NOT NULL,
	PRIMARY KEY (stream_id, id)
);
CREATE INDEX stream_events_place ON ductstream.stream_events USING brin (lsn, created_at) WITH (pages_per_range = 32, autosummarize = on);

-- A consumer group. Events from next_id on were never handed out. Of those below, the ones in stream_deliveries are open, the others settled.
CREATE TABLE ductstream.stream_groups (
	group_id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	stream_id int NOT NULL,
	name text NOT NULL,
	next_id int8 NOT NULL,
	ordered bool NOT NULL,
	max_attempts int NOT NULL,
	created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	used_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	UNIQUE (stream_id, name)
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

-- Events that were handed out and are not settled, in ranges that never overlap: as many rows as pulls under way, not as messages.
-- claim set and visible_at ahead: somebody holds them until then. Otherwise they are given to the next pull from visible_at on.
CREATE TABLE ductstream.stream_deliveries (
	first_id int8 NOT NULL,
	last_id int8 NOT NULL,
	visible_at timestamptz NOT NULL,
	claim uuid,
	group_id int NOT NULL,
	attempts int NOT NULL,
	consumer_id text,
	reason text,
	PRIMARY KEY (group_id, first_id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX stream_deliveries_visible ON ductstream.stream_deliveries (group_id, visible_at);
CREATE INDEX stream_deliveries_claim ON ductstream.stream_deliveries (claim) WHERE claim IS NOT NULL;

CREATE TABLE ductstream.stream_dead_letters (
	group_id int NOT NULL,
	id int8 NOT NULL,
	attempts int NOT NULL,
	dead_at timestamptz NOT NULL,
	reason text NOT NULL,
	PRIMARY KEY (group_id, id)
);

-- How far a flow is in a stream; moved in the transaction of the events. epoch: of its owner, older ones can never commit.
CREATE TABLE ductstream.stream_checkpoints (
	flow text NOT NULL,
	stream_id int NOT NULL,
	epoch int8 NOT NULL,
	seq int8 NOT NULL DEFAULT 0,
	state text NOT NULL DEFAULT 'none',
	lsn pg_lsn NOT NULL DEFAULT '0/0',
	commit_us int8 NOT NULL DEFAULT 0,
	source_identity text NOT NULL DEFAULT '',
	owner text NOT NULL DEFAULT '',
	-- The owner's backend: who takes over ends what it left open.
	owner_pid int,
	owner_start timestamptz,
	PRIMARY KEY (flow, stream_id)
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

-- Source tables that are complete in the stream.
CREATE TABLE ductstream.stream_relations (
	flow text NOT NULL,
	stream_id int NOT NULL,
	source_oid int8 NOT NULL,
	PRIMARY KEY (flow, stream_id, source_oid)
);
