#ifndef PG_SQL_H
#define PG_SQL_H

/* The catalog queries, in one place. Names are qualified by the empty search_path of a session: pg_catalog only. */

/* $1 oid[]: the types and all they are made of. %s: what multiranges add (14 and later), twice. */
#define PG_SQL_TYPES \
	"WITH RECURSIVE w(oid) AS (SELECT unnest($1::oid[]) UNION SELECT x.n FROM w JOIN pg_type t ON t.oid = w.oid " \
	"CROSS JOIN LATERAL (SELECT t.typelem WHERE t.typelem <> 0 AND (t.typsend = 'array_send'::regproc " \
	"OR t.oid IN (22, 30)) " \
	"UNION ALL SELECT t.typbasetype WHERE t.typbasetype <> 0 " \
	"UNION ALL SELECT a.atttypid FROM pg_attribute a WHERE t.typtype = 'c' AND a.attrelid = t.typrelid " \
	"AND a.attnum > 0 AND NOT a.attisdropped " \
	"UNION ALL SELECT r.rngsubtype FROM pg_range r WHERE r.rngtypid = t.oid%s) x(n)) " \
	"SELECT t.oid, t.typtype, t.typdelim, format_type(t.oid, NULL), p.proname, t.typbasetype, t.typtypmod, " \
	"t.typndims, CASE WHEN t.typsend = 'array_send'::regproc THEN t.typelem ELSE 0 END, " \
	"coalesce(r.rngsubtype, 0), coalesce(m.rngtypid, 0) " \
	"FROM w JOIN pg_type t ON t.oid = w.oid LEFT JOIN pg_proc p ON p.oid = t.typsend " \
	"LEFT JOIN pg_range r ON r.rngtypid = t.oid LEFT JOIN pg_range m ON %s ORDER BY t.oid"
#define PG_SQL_MULTIRANGE_OF "m.rngmultitypid = t.oid"
#define PG_SQL_MULTIRANGE_PARTS " UNION ALL SELECT r.rngtypid FROM pg_range r WHERE r.rngmultitypid = t.oid"

/* $1 oid[]: composite types. */
#define PG_SQL_FIELDS \
	"SELECT t.oid, a.attname, a.atttypid, a.atttypmod, a.attndims FROM pg_type t " \
	"JOIN pg_attribute a ON a.attrelid = t.typrelid WHERE t.typtype = 'c' AND t.oid = ANY ($1::oid[]) " \
	"AND a.attnum > 0 AND NOT a.attisdropped ORDER BY t.oid, a.attnum"

/* $1 oid[]: tables. indisready and indisvalid are what the server itself asks of an identity index. */
#define PG_SQL_TABLES \
	"SELECT c.oid, n.nspname, c.relname, c.relkind, c.relreplident, p.indimmediate, " \
	"p.indkey::text, p.indnkeyatts, i.indkey::text, i.indnkeyatts, (SELECT string_agg(d.attnum::text, ' ' " \
	"ORDER BY d.attnum) FROM pg_attribute d WHERE d.attrelid = c.oid AND d.attnum > 0 AND d.attisdropped) " \
	"FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace " \
	"LEFT JOIN pg_index p ON p.indrelid = c.oid AND p.indisprimary AND p.indisvalid " \
	"LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisreplident AND i.indisvalid AND i.indimmediate " \
	"WHERE c.oid = ANY ($1::oid[]) ORDER BY c.oid"

/*
 * The last but one: whether rows older than the column may have got values of their own. It has or had a default that is not kept as their
 * value: each row's own, that of a partitioned table, or one from before the table was rewritten. One that was dropped again is
 * seen only where the column takes no NULL, or the leaves have kept it.
 */
#define PG_SQL_COLUMNS \
	"SELECT a.attrelid, a.attnum, a.attname, a.atttypid, a.atttypmod, a.attndims, a.attnotnull, " \
	"format_type(a.atttypid, a.atttypmod), CASE WHEN a.atthasmissing THEN a.attmissingval::text END, " \
	"NOT a.atthasmissing AND (a.atthasdef OR a.attidentity <> '' OR (a.attnotnull AND c.relfilenode <> c.oid) OR " \
	"CASE WHEN c.relkind = 'p' THEN EXISTS (SELECT FROM pg_partition_tree(c.oid) p JOIN pg_attribute l ON l.attrelid = p.relid " \
	"WHERE l.attname = a.attname AND l.atthasmissing) ELSE false END), a.attgenerated <> '' " \
	"FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid WHERE a.attrelid = ANY ($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped " \
	"AND a.attgenerated IN ('', 's') ORDER BY a.attrelid, a.attnum"

#define PG_SQL_SERVER \
	"SELECT (SELECT system_identifier FROM pg_control_system()), current_database(), d.oid, current_user, " \
	"r.rolsuper, r.rolreplication OR r.rolsuper " \
	"OR EXISTS (SELECT FROM pg_roles a WHERE a.rolname IN ('rds_replication', 'rds_superuser') " \
	"AND pg_has_role(r.oid, a.oid, 'member')), " \
	"r.rolbypassrls OR r.rolsuper, coalesce((SELECT pg_has_role(r.oid, a.oid, 'usage') FROM pg_roles a WHERE a.rolname = 'pg_read_all_data'), false), pg_is_in_recovery(), " \
	"(SELECT timeline_id FROM pg_control_checkpoint()), " \
	"CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END, " \
	"current_setting('wal_level'), current_setting('max_replication_slots'), " \
	"(SELECT count(*) FROM pg_replication_slots), current_setting('max_wal_senders'), " \
	"(SELECT count(*) FROM pg_stat_replication), " \
	"(SELECT setting FROM pg_settings WHERE name = 'max_slot_wal_keep_size'), " \
	"(SELECT setting FROM pg_settings WHERE name = 'wal_sender_timeout'), current_setting('fsync') = 'off', " \
	"coalesce((SELECT setting FROM pg_settings WHERE name = 'idle_replication_slot_timeout'), '0') " \
	"FROM pg_roles r, pg_database d WHERE r.rolname = current_user AND d.datname = current_database()"

#define PG_SQL_HEAD "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END"

/* $1 name. %s: two_phase (14 and later), the version's column for the reason of an invalidation. */
#define PG_SQL_SLOT \
	"SELECT plugin, database, slot_type = 'logical', temporary, active, %s, active_pid, restart_lsn, " \
	"confirmed_flush_lsn, wal_status, safe_wal_size, %s FROM pg_replication_slots WHERE slot_name = $1"

/* $1 name. */
#define PG_SQL_PUBLICATION \
	"SELECT puballtables, pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot FROM pg_publication " \
	"WHERE pubname = $1"

/* One row per publication and table. %s: column list and row filter; which columns are published at all. Column lists that name all columns
 * that are not generated, and no other, are no lists; before 18 the view names generated ones where there is none. */
#define PG_SQL_PUBLISHED_HEAD \
	"SELECT c.oid, n.nspname, c.relname, c.relkind, c.relreplident, %s, " \
	"(SELECT coalesce(sum(pg_relation_size(s.relid)), 0) FROM (SELECT relid FROM pg_partition_tree(c.oid) " \
	"WHERE isleaf UNION ALL SELECT c.oid WHERE c.relkind <> 'p' AND NOT c.relispartition) s), " \
	"(SELECT coalesce(sum(pg_table_size(s.relid)), 0) FROM (SELECT relid FROM pg_partition_tree(c.oid) " \
	"WHERE isleaf UNION ALL SELECT c.oid WHERE c.relkind <> 'p' AND NOT c.relispartition) s), " \
	"c.reltuples::int8, row_security_active(c.oid), has_schema_privilege(n.oid, 'USAGE') " \
	"AND (has_table_privilege(c.oid, 'SELECT') OR has_any_column_privilege(c.oid, 'SELECT')), " \
	"NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped " \
	"AND %s) "
/* $1 name[]. */
#define PG_SQL_PUBLISHED \
	PG_SQL_PUBLISHED_HEAD \
	"FROM pg_publication_tables t JOIN pg_namespace n ON n.nspname = t.schemaname " \
	"JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename " \
	"WHERE t.pubname = ANY ($1::name[]) ORDER BY n.nspname, c.relname, t.pubname"
/* $1 oid[], $2 bool: publish_via_partition_root. What a publication of these tables would have. */
#define PG_SQL_WOULD_BE_PUBLISHED \
	PG_SQL_PUBLISHED_HEAD \
	"FROM (SELECT DISTINCT l.relid FROM unnest($1::oid[]) o, LATERAL (SELECT relid FROM pg_partition_tree(o) " \
	"WHERE isleaf AND NOT $2::bool UNION SELECT o) l) w JOIN pg_class c ON c.oid = w.relid " \
	"JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r' OR c.relkind = 'p' AND $2::bool " \
	"ORDER BY n.nspname, c.relname"
#define PG_SQL_PUBLISHED_NO_LIST "NULL::text[], NULL::text"
#define PG_SQL_PUBLISHED_LIST \
	"CASE WHEN EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped " \
	"AND (a.attgenerated = '') <> (a.attname = ANY (t.attnames)) " \
	"AND (a.attgenerated = '' OR current_setting('server_version_num')::int >= 180000)) " \
	"THEN t.attnames::text[] END, t.rowfilter"
/* What may be published of a table where no list says otherwise (a list has some of these), and what is (18 and later). */
#define PG_SQL_PUBLISHED_COLUMN "a.attgenerated = ''"
#define PG_SQL_PUBLISHED_COLUMN_18 "a.attname = ANY (t.attnames)"

/* $1 oid: leaves of a partitioned table, or the table itself. */
#define PG_SQL_STORAGE \
	"SELECT c.oid, n.nspname, c.relname, c.relkind, pg_relation_size(c.oid), pg_table_size(c.oid), " \
	"c.reltuples::int8 FROM (SELECT relid FROM pg_partition_tree($1::oid) WHERE isleaf " \
	"UNION SELECT oid FROM pg_class WHERE oid = $1::oid AND relkind <> 'p') s " \
	"JOIN pg_class c ON c.oid = s.relid JOIN pg_namespace n ON n.oid = c.relnamespace " \
	"WHERE c.relkind <> 'p' ORDER BY n.nspname, c.relname"

#endif
