#ifndef CLI_HEALTH_H
#define CLI_HEALTH_H

#include "cli/report.h"

/* The lake of `ductstream health`, as it is named. */
struct health_wish {
	const char *catalog, *data_path, *metadata_schema; /* NULL: of the environment */
	int64_t long_ms;				   /* transactions that last longer are told of */
	bool client;					   /* the official client is tried, too */
};
/* Whether a lake is named at all: by the wish or by the environment. */
bool health_has_lake(const struct health_wish *wish);
/* Looks at it; what is found is printed. 0, -class; *ret_sick: something is an error. */
int health_of_lake(const struct health_wish *wish, bool *ret_sick, struct duct_error *err) DUCT_CHECKED;

/*
 * health_child.c: the official client, in a process of its own (run/inside.h says why), that gets ready while others look at the lake natively.
 * One thread.
 */
struct health_child;
struct health_child *health_child_start(struct duct_error *err); /* NULL: it cannot be started */
/* What it is to do: attach the lake, and write rows below data_path, in that schema (NULL: main). */
struct health_order {
	const char *data_path, *schema;
	bool rows;
};
/* Lets it do that, and waits for its findings. 0; -CANCELLED. */
int health_child_look(struct health_child *child, const struct health_order *order, int stop_fd, struct cli_report *report,
		      struct duct_error *err) DUCT_CHECKED;
void health_child_end(struct health_child *child); /* accepts NULL; kills it when it is there */

#endif
