/*
 * Encodes all that a source sends up to its present end: wire_driver FOLDER OPTION=VALUE... (options of the Postgres source). Each batch
 * becomes FOLDER/NNNN.json and FOLDER/NNNN.arrow with the same records. After the copy it says "copied" and waits for a line before it
 * streams.
 */
#include "source/source.h"
#include "wire/wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_OPTIONS = 32, READ_TIMEOUT_MS = 200 };

static const char *folder;
static int number;

static int save(const struct wire_format *format, const struct wire_rows *rows, struct duct_error *err)
{
	AUTO_BUF struct duct_buf bytes = {0};
	AUTO_FREE char *path = duct_xasprintf("%s/%04d.%s", folder, number, format->name);
	int rc = format->encode(&bytes, rows, err);
	if (rc)
		return rc;
	FILE *f = fopen(path, "wb");
	if (!f || fwrite(bytes.data, 1, bytes.len, f) != bytes.len || fclose(f))
		return duct_fail(err, DUCT_RETRY, "write %s", path);
	return 0;
}

static int encode(const struct duct_changes *changes, const struct duct_batch *batch, struct duct_error *err)
{
	struct wire_rows rows = wire_all_rows(changes, batch);
	number++;
	int rc = save(&wire_json, &rows, err);
	return rc ? rc : save(&wire_arrow, &rows, err);
}

static int copy_part(const struct duct_source_ops *ops, void *source, struct duct_snapshot *snap, struct duct_snapshot_part *part,
		     struct duct_error *err)
{
	void *reader;
	struct duct_batch *batch = NULL;
	int rc = ops->part_open(source, snap, part, &reader, err);
	while (rc == 0 && !(rc = ops->part_read(reader, &batch, err)) && batch) {
		rc = encode(NULL, batch, err);
		duct_batch_unref(batch);
	}
	ops->part_close(reader);
	return rc;
}

static int copy(const struct duct_source_ops *ops, void *source, struct duct_error *err)
{
	struct duct_snapshot *snap = NULL;
	int rc = ops->snapshot(source, &snap, err);
	for (size_t i = 0; snap && i < snap->nparts && rc == 0; i++)
		rc = copy_part(ops, source, snap, &snap->parts[i], err);
	return rc || !snap ? rc : ops->snapshot_done(source, snap, true, err);
}

static int stream(const struct duct_source_ops *ops, void *source, struct duct_error *err)
{
	struct duct_pos head, durable = {0}, at = {0};
	puts("copied");
	fflush(stdout);
	(void)getchar();
	int rc = ops->head(source, &head, err);
	while (rc == 0 && at.lsn < head.lsn) {
		struct duct_changes *changes = NULL;
		rc = ops->read(source, &durable, &changes, READ_TIMEOUT_MS, err);
		for (size_t i = 0; changes && i < changes->nbatches && rc == 0; i++)
			rc = encode(changes, changes->batches[i], err);
		if (changes && changes->upto.lsn)
			at = durable = changes->upto;
		duct_changes_free(changes);
	}
	ops->close(source, &durable);
	return rc;
}

static int run(char **options, int n, struct duct_error *err)
{
	const struct duct_source_ops *ops = duct_source_find("postgres");
	struct duct_opt_value values[MOST_OPTIONS] = {{0}};
	for (int i = 0; i < n && i < MOST_OPTIONS; i++) {
		char *equals = strchr(options[i], '=');
		*equals = 0;
		values[i] = (struct duct_opt_value){.name = options[i], .text = equals + 1};
	}
	void *config = duct_xcalloc(1, ops->config_size), *source = NULL;
	struct duct_log log = {0};
	atomic_bool stop = false;
	struct duct_ctx ctx = {.log = &log, .flow = "wire", .stop = &stop, .stop_fd = -1};
	struct duct_checkpoint none = {0};
	int rc = duct_opts_load(config, ops->config_size, ops->opts, values, (size_t)n, "wire_driver", err);
	if (rc == 0)
		rc = ops->open(&source, config, &ctx, &none, err);
	if (rc == 0)
		rc = copy(ops, source, err);
	if (rc == 0)
		rc = stream(ops, source, err);
	duct_opts_done(config, ops->config_size, ops->opts);
	free(config);
	return rc;
}

int main(int argc, char **argv)
{
	struct duct_error err = {0};
	if (argc < 2)
		return 2;
	folder = argv[1];
	if (run(argv + 2, argc - 2, &err) == 0)
		return 0;
	fprintf(stderr, "%s\n", err.message);
	return 1;
}
