#ifndef FLOW_FLOW_FILE_H
#define FLOW_FLOW_FILE_H

#include "base/arena.h"
#include "base/findings.h"
#include "flow/flow.h"
#include "flow/flow_yaml.h"

/*
 * A flow file, loaded: names and types checked, options in the typed configs of the connectors. Owns everything that
 * `spec` borrows.
 *
 *   name: shop
 *   source: {type: postgres, options: {...}}    # name: optional
 *   destinations:
 *     - {name: lake, type: ducklake, options: {...}}
 *   wire_format: arrow     # optional
 *   parallelism: 1         # optional
 *   config: {...}          # optional: struct flow_file_config
 */

/* The rows of `config`. */
struct flow_file_config {
	int ack_policy /* enum flow_ack_policy */, failure_mode, give_up_policy;
	char *primary_destination, *outbox_dir, *ddl;
	int64_t outbox_limit_bytes, max_memory_bytes, give_up_ms;
};
enum flow_ack_policy { FLOW_ACK_ALL, FLOW_ACK_PRIMARY };
enum flow_give_up { FLOW_GIVE_UP_NEVER, FLOW_GIVE_UP_ON_RETRY_EXHAUSTION };
extern const struct duct_opt flow_file_config_opts[];

/* config.ddl; -1: what the service says (DUCTSTREAM_DDL_GATE, ...). */
struct flow_ddl_policy {
	int gate, auto_approve, auto_apply;
};

struct flow_file {
	struct flow_spec spec;
	struct flow_file_config config;
	struct flow_ddl_policy ddl;

	struct duct_arena arena;
	void *source_config;
	struct flow_destination *destinations;
};

struct flow_load_options {
	/* NULL-terminated, usually duct_sources and duct_destinations. */
	const struct duct_source_ops *const *sources;
	const struct duct_destination_ops *const *destinations;
	flow_getenv_fn *env; /* usually getenv */
	/* One more option of the source, which wins over the file ("accept_gap"); NULL: none. */
	const char *source_option, *source_value;
	/* Everything that is wrong, in the order of the file; the error is the first of them. NULL: only that one is wanted. */
	struct duct_findings *findings;
	bool by_path; /* findings begin with "flow.destinations[0].options.data_path: " instead of "path:line: " */
};

/* Reads and checks `path`. CONFIG errors begin with "path:line: "; secrets do not appear in them. */
int flow_file_load(struct flow_file **ret, const char *path, const struct flow_load_options *options,
		   struct duct_error *err) DUCT_CHECKED;
/* The same from memory; `file` is its name in messages. */
int flow_file_parse(struct flow_file **ret, const char *data, size_t n, const char *file, const struct flow_load_options *options,
		    struct duct_error *err) DUCT_CHECKED;
void flow_file_free(struct flow_file *file); /* accepts NULL */

/* 1 to 63 of [A-Za-z0-9_-]. */
bool flow_name_valid(const char *name);

#endif
