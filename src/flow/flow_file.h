#ifndef FLOW_FLOW_FILE_H
#define FLOW_FLOW_FILE_H

#include "base/arena.h"
#include "flow/flow.h"
#include "flow/flow_yaml.h"

/*
 * A flow file, loaded: names and types checked, options in the typed configs of the connectors. Owns everything that
 * `spec` borrows.
 *
 *   name: shop
 *   source: {type: postgres, options: {...}}
 *   destinations:
 *     - {name: lake, type: ducklake, options: {...}}
 *   wire_format: arrow     # optional
 *   parallelism: 1         # optional
 *   config: {...}          # optional: struct flow_file_config
 */

enum flow_ack_policy { FLOW_ACK_ALL, FLOW_ACK_PRIMARY };

/* The rows of `config`. */
struct flow_file_config {
	int ack_policy; /* enum flow_ack_policy */
	char *primary_destination, *outbox_dir;
	int64_t outbox_limit_bytes;
	int64_t max_memory_bytes, give_up_ms;
};
extern const struct duct_opt flow_file_config_opts[];

struct flow_file {
	struct flow_spec spec;
	int64_t parallelism;
	const char *wire_format; /* NULL when not given */
	struct flow_file_config config;

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
