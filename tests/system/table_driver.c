/*
 * A destination of tables without a flow around it: table_driver TYPE OPTION=VALUE... -- STEP... Steps, each a commit of its own, on a table
 * public.t (id int, primary key; v text):
 *
 *   copy:A:B:V    the table is copied, ids A to B with V
 *   put:ID:V      an insert         set:ID:V      an update          drop:ID    a delete
 *   resolve       staged rows are taken over
 *   open          the destination is closed and opened again
 *   column:NAME   the source's table has a column more, an int, which the changes that follow leave NULL
 *   hook:yes|no   changes of the table are printed as JSON before they are done, and let happen or held back
 */
#include "destination/destination.h"
#include "record/ddl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct duct_destination_ops *ops;
static void *config, *dest;
static struct duct_relation *rel;
static atomic_bool stop;
static struct duct_log logger;
static struct duct_ctx ctx = {.log = &logger, .flow = "driven", .stop = &stop, .stop_fd = -1};
static uint64_t lsn = 1000, seq;
static bool copied;

static struct duct_relation *make_relation(void)
{
	struct duct_relation *made = duct_relation_new();
	made->schema = "public";
	made->name = "t";
	made->oid = 100;
	made->version = 1;
	made->identity = DUCT_IDENTITY_KEY;
	made->ncolumns = 2;
	made->columns = duct_arena_zalloc(&made->arena, 2 * sizeof *made->columns);
	made->columns[0] =
		(struct duct_column){.name = "id", .type = {.kind = DUCT_INT32}, .attnum = 1, .key = true, .not_null = true};
	made->columns[1] = (struct duct_column){.name = "v", .type = {.kind = DUCT_VARCHAR}, .attnum = 2};
	made->nkeys = 1;
	made->keys = duct_arena_zalloc(&made->arena, sizeof *made->keys);
	return made;
}

/* One column more than before. */
static void add_column(char *name)
{
	struct duct_relation *made = make_relation();
	int n = rel->ncolumns;
	made->version = rel->version + 1;
	made->columns = duct_arena_zalloc(&made->arena, ((size_t)n + 1) * sizeof *made->columns);
	memcpy(made->columns, rel->columns, (size_t)n * sizeof *made->columns);
	made->columns[n] = (struct duct_column){.name = duct_arena_strdup(&made->arena, name),
						.type = {.kind = DUCT_INT32},
						.attnum = (int16_t)(n + 1)};
	made->ncolumns = n + 1;
	duct_relation_unref(rel);
	rel = made;
}

static int met(void *arg, const struct duct_ddl_plan *plan, uint64_t at, struct duct_error *err)
{
	AUTO_BUF struct duct_buf json = {0};
	(void)at;
	duct_ddl_json(&json, plan);
	puts(json.data);
	return *(bool *)arg ? 0 : duct_fail(err, DUCT_CANCELLED, "held back");
}

static void put_row(struct duct_batch *b, struct duct_vector *columns, int32_t id, const char *v)
{
	memcpy(duct_vector_append(b, &columns[0], sizeof id), &id, sizeof id);
	if (v)
		memcpy(duct_vector_append(b, &columns[1], (uint32_t)strlen(v)), v, strlen(v));
	else
		duct_vector_append_unsent(b, &columns[1]);
	for (int i = 2; i < rel->ncolumns; i++)
		duct_vector_append_null(b, &columns[i]);
}

static int change(enum duct_op op, int32_t id, const char *v, struct duct_error *err)
{
	struct duct_changes *changes = duct_changes_new();
	struct duct_batch *b = duct_batch_new(rel, 1);
	struct duct_commit_result result;
	(void)duct_batch_add_row(b, op, ++seq);
	if (op == DUCT_DELETE) {
		(void)duct_batch_add_old_row(b);
		put_row(b, b->old, id, NULL);
		b->lacks = true;
	} else {
		put_row(b, b->columns, id, v);
	}
	duct_batch_seal(b);
	duct_changes_add(changes, b);
	duct_changes_add_commit(changes, &(struct duct_commit){.end_lsn = ++lsn, .commit_us = 1, .last_seq = seq});
	changes->ends_commit = true;
	int rc = ops->write(dest, changes, err);
	return rc ? rc : ops->commit(dest, false, &result, err);
}

static int copy(int32_t from, int32_t to, const char *v, struct duct_error *err)
{
	void *loader;
	struct duct_commit_result result;
	struct duct_pos pos = {++lsn, 1};
	int rc = copied ? 0 : ops->begin_copy(dest, "{}", err);
	if (rc == 0)
		rc = ops->load_begin(dest, &rel, 1, 0, err);
	if (rc == 0)
		rc = ops->loader_open(dest, rel, &loader, err);
	if (rc)
		return rc;
	struct duct_batch *b = duct_batch_new(rel, (uint32_t)(to - from) + 1);
	for (int32_t id = from; id <= to; id++) {
		(void)duct_batch_add_row(b, DUCT_READ, ++seq);
		put_row(b, b->columns, id, v);
	}
	duct_batch_seal(b);
	rc = ops->loader_write(loader, b, err);
	if (rc == 0)
		rc = ops->loader_finish(loader, err);
	ops->loader_close(loader);
	duct_batch_unref(b);
	if (rc == 0)
		rc = ops->load_publish(dest, &pos, "{}", !copied, &result, err);
	copied = true;
	return rc;
}

static int open_dest(struct duct_error *err)
{
	struct duct_checkpoint at;
	int rc = ops->open(&dest, config, &ctx, err);
	return rc ? rc : ops->resume(dest, &at, err);
}

static int step(char *text, struct duct_error *err)
{
	char *f[4] = {strtok(text, ":"), strtok(NULL, ":"), strtok(NULL, ":"), strtok(NULL, ":")};
	int32_t id = f[1] ? atoi(f[1]) : 0;
	if (strcmp(f[0], "copy") == 0)
		return copy(id, atoi(f[2]), f[3], err);
	if (strcmp(f[0], "put") == 0)
		return change(DUCT_INSERT, id, f[2], err);
	if (strcmp(f[0], "set") == 0)
		return change(DUCT_UPDATE, id, f[2], err);
	if (strcmp(f[0], "drop") == 0)
		return change(DUCT_DELETE, id, NULL, err);
	if (strcmp(f[0], "resolve") == 0)
		return ops->resolve_staging(dest, err);
	if (strcmp(f[0], "column") == 0) {
		add_column(f[1]);
		return 0;
	}
	if (strcmp(f[0], "hook") == 0) {
		static bool lets;
		static struct duct_ddl_hook hook = {.arg = &lets, .met = met};
		lets = strcmp(f[1], "yes") == 0;
		ctx.ddl = &hook;
		return 0;
	}
	ops->close(dest);
	dest = NULL;
	return open_dest(err);
}

static int run(char **words, int n, struct duct_error *err)
{
	struct duct_opt_value values[32] = {{0}};
	size_t nvalues = 0;
	int at = 0;
	for (; at < n && strcmp(words[at], "--") != 0; at++) {
		char *equals = strchr(words[at], '=');
		*equals = 0;
		values[nvalues++] = (struct duct_opt_value){.name = words[at], .text = equals + 1};
	}
	int rc = duct_opts_load(config, ops->config_size, ops->opts, values, nvalues, "table_driver", err);
	if (rc)
		return rc;
	rc = open_dest(err);
	for (at++; at < n && rc == 0; at++)
		rc = step(words[at], err);
	ops->close(dest);
	duct_opts_done(config, ops->config_size, ops->opts);
	return rc;
}

int main(int argc, char **argv)
{
	struct duct_error err = {0};
	ops = argc > 1 ? duct_destination_find(argv[1]) : NULL;
	if (!ops)
		return 2;
	config = duct_xcalloc(1, ops->config_size);
	rel = make_relation();
	int rc = run(argv + 2, argc - 2, &err);
	duct_relation_unref(rel);
	free(config);
	if (rc)
		fprintf(stderr, "%s\n", err.message);
	return rc ? 1 : 0;
}
