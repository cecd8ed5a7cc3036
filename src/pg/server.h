#ifndef PG_SERVER_H
#define PG_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "pg/publication.h"
#include "pg/session.h"

/* Catalog queries of a source. All on a plain SQL session unless said otherwise; sql.h holds the text. */

struct pg_server {
	int version;
	char system_id[24];
	char database[64];
	uint32_t database_oid;
	char user[64];
	bool superuser, can_replicate, bypass_rls, read_all_data; /* rights of the user, inherited ones included */
	bool in_recovery;
	int timeline;
	uint64_t flush_lsn; /* of the primary; on a standby the replayed position */
	char wal_level[16];
	int max_slots, used_slots, max_senders, used_senders;
	int64_t max_slot_wal_keep_mb; /* -1: no limit */
	int64_t idle_slot_timeout_s;  /* 0: none, or a server before 18 */
	int64_t wal_sender_timeout_ms;
	bool fsync_off;
};
int pg_server_read(struct pg_server *ret, struct pg_session *session, struct duct_error *err) DUCT_CHECKED;

/* IDENTIFY_SYSTEM, on a replication connection. */
struct pg_identity {
	char system_id[24];
	int timeline;
	uint64_t flush_lsn;
	char database[64];
};
int pg_identify_system(struct pg_identity *ret, struct pg_session *replication, struct duct_error *err) DUCT_CHECKED;

/* pg_current_wal_flush_lsn() (on a standby pg_last_wal_replay_lsn()). */
int pg_head_lsn(uint64_t *ret, struct pg_session *session, struct duct_error *err) DUCT_CHECKED;

struct pg_slot {
	bool exists;
	char plugin[64], database[64];
	bool logical, temporary, active, two_phase;
	int active_pid;
	uint64_t restart_lsn, confirmed_lsn; /* 0: NULL */
	char wal_status[16];		     /* reserved extended unreserved lost; "" when NULL */
	char invalidation_reason[64];	     /* 17+, "" when none */
	int64_t safe_wal_bytes;		     /* INT64_MAX: no limit */
};
int pg_slot_read(struct pg_slot *ret, struct pg_session *session, const char *name, struct duct_error *err) DUCT_CHECKED;

struct pg_publication {
	bool exists, all_tables, insert, update, delete, truncate, via_root;
};
int pg_publication_read(struct pg_publication *ret, struct pg_session *session, const char *name,
			struct duct_error *err) DUCT_CHECKED;

/* A table that publications name: with publish_via_partition_root the root, else leaves and plain tables. */
struct pg_published {
	uint32_t oid;
	const char *schema, *name;
	char kind;			 /* relkind */
	char identity;			 /* relreplident */
	const char *const *columns;	 /* published ones, NULL-terminated; NULL: all */
	const char *row_filter;		 /* SQL expression, NULL: none */
	int64_t heap_bytes, total_bytes; /* total: with TOAST; a partitioned table's are those of its leaves */
	int64_t estimated_rows;		 /* -1: unknown */
	bool row_security;		 /* policies apply to this user */
	bool can_select;
	bool bare; /* no column of it is published: it has none, or generated ones only */
};
struct pg_published_list {
	struct duct_arena arena;
	struct pg_published *tables; /* ordered by schema, name */
	size_t ntables;
};
/* Tables of any of the publications (NULL-terminated names), each once. A table that several publications name with
 * different column lists is CONFIG; row filters are OR-ed, one without filter removes them. */
int pg_published_read(struct pg_published_list **ret, struct pg_session *session, const char *const *publications,
		      struct duct_error *err) DUCT_CHECKED;
/* What a publication would have that is made of these tables, without lists of columns. */
int pg_published_would(struct pg_published_list **ret, struct pg_session *session, const struct pg_choices *tables, bool via_root,
		       struct duct_error *err) DUCT_CHECKED;
void pg_published_free(struct pg_published_list *list); /* accepts NULL */

/* The tables that hold the rows of one: its leaf partitions, or itself. */
struct pg_storage {
	uint32_t oid;
	const char *schema, *name;
	char kind;
	int64_t heap_bytes, total_bytes; /* live sizes: pg_relation_size of the heap, pg_table_size */
	int64_t estimated_rows;
};
struct pg_storage_list {
	struct duct_arena arena;
	struct pg_storage *tables;
	size_t ntables;
};
int pg_storage_read(struct pg_storage_list **ret, struct pg_session *session, uint32_t oid, struct duct_error *err) DUCT_CHECKED;
void pg_storage_free(struct pg_storage_list *list); /* accepts NULL */

#endif
