#ifndef DUCT_SOURCE_POSTGRES_CONFIG_H
#define DUCT_SOURCE_POSTGRES_CONFIG_H

#include "options/options.h"

enum postgres_snapshot_mode { POSTGRES_SNAPSHOT_AUTO, POSTGRES_SNAPSHOT_NEVER, POSTGRES_SNAPSHOT_ONLY };
enum postgres_sync_mode { POSTGRES_SYNC_ADD, POSTGRES_SYNC_SYNC };
enum postgres_state_backend { POSTGRES_STATE_POSTGRES, POSTGRES_STATE_FILE, POSTGRES_STATE_NONE };
enum postgres_switch { POSTGRES_SWITCH_AUTO, POSTGRES_SWITCH_OFF };

/* One field per row of duct_source_postgres_opts; owned by the flow. */
struct postgres_config {
	char *dsn, *slot, *publication;
	bool create_slot, ensure_publication;
	char **publication_tables, **publication_schemas;
	bool publish_via_partition_root;
	bool validate_replication;
	int64_t batch_size, batch_timeout_ms, status_interval_ms;
	bool emit_empty, resolve_types;
	bool sync_publication;
	int sync_publication_mode; /* enum postgres_sync_mode */
	bool ensure_state;
	char *state_schema, *state_table, *flow_id;
	int snapshot; /* enum postgres_snapshot_mode */
	int64_t snapshot_workers, partition_count;
	char *partition_column;
	bool snapshot_consistent;
	int snapshot_state_backend; /* enum postgres_state_backend */
	char *snapshot_state_schema, *snapshot_state_table, *snapshot_state_path, *snapshot_state_dsn;
	char *start_lsn;
	bool accept_gap, dead_letter;
	char *dead_letter_table;
	int64_t max_memory, spool_limit, work_mem, read_pause_us, lock_timeout_ms;
	char *spool_dir;
	int binary, streaming; /* enum postgres_switch */
};

extern const struct duct_opt duct_source_postgres_opts[];

/* Cross-option rules; no I/O. */
int postgres_config_check(const void *config, struct duct_error *err);

#endif
