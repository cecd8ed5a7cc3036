/* `ingest`: runs of kind "ingest", one per partition. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/here.h"
#include "run/jobs.h"

enum { MOST_BYTES = 1 << 20 };

struct request {
	const char *file, *partition, *from, *to, *into;
	bool replace;
};

/* Rows are no ingestion file, whose errors would be those of its text. */
static bool is_data(const char *path)
{
	static const char *const ends[] = {".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".xlsx", ".gz", ".zst"};
	const char *dot = strrchr(path, '.');
	for (size_t i = 0; dot && i < DUCT_LEN(ends); i++)
		if (strcasecmp(dot, ends[i]) == 0)
			return true;
	return strncmp(path, "s3://", 5) == 0;
}

static int read_text(const char *path, struct duct_buf *to, struct duct_error *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, duct_buf_room(to, MOST_BYTES + 1), MOST_BYTES + 1);
	int code = errno;
	if (fd >= 0)
		close(fd);
	if (n < 0)
		return duct_fail(err, DUCT_CONFIG, "read \"%s\": %s", path, strerror(code));
	if (n > MOST_BYTES)
		return duct_fail(err, DUCT_CONFIG, "\"%s\": larger than 1 MiB: not an ingestion file", path);
	to->len = (size_t)n;
	to->data[n] = 0;
	return strlen(to->data) == to->len ? 0 : duct_fail(err, DUCT_CONFIG, "\"%s\": not a text", path);
}

/* What `ingest data.csv --into raw.x` stands for. */
static int write_text(const struct request *r, struct duct_buf *to, struct duct_error *err)
{
	char path[PATH_MAX];
	const char *file = r->file;
	bool remote = strstr(file, "://") != NULL;
	if (!remote && realpath(file, path))
		file = path;
	else if (!remote && !strpbrk(file, "*?["))
		return duct_fail(err, DUCT_CONFIG, "read \"%s\": %s", file, strerror(errno));
	duct_buf_puts(to, "{\"type\": \"files\", \"into\": ");
	duct_buf_json_string(to, r->into, strlen(r->into));
	duct_buf_puts(to, ", \"files\": [");
	duct_buf_json_string(to, file, strlen(file));
	duct_buf_printf(to, "], \"write\": \"%s\"}", r->replace ? "replace" : "append");
	return 0;
}

static int64_t number(const json_t *result, const char *name)
{
	return (int64_t)json_integer_value(json_object_get(result, name));
}

static void put_result(struct duct_buf *to, const json_t *result)
{
	const char *partition = json_string_value(json_object_get(result, "partition"));
	const char *table = json_string_value(json_object_get(result, "table"));
	const json_t *outputs = json_object_get(result, "outputs");
	if (json_object_get(result, "error") || !table)
		return;
	/* the table itself comes first, then those of its nested lists */
	int64_t rows = number(json_array_get(outputs, 0), "rows");
	duct_buf_printf(to, "%s%s%s: %" PRId64 " rows", table, partition ? " " : "", partition ? partition : "", rows);
	if (json_array_size(outputs) > 1)
		duct_buf_printf(to, " and %" PRId64 " of nested lists", number(result, "rows") - rows);
	if (number(result, "replaced"))
		duct_buf_printf(to, " in place of %" PRId64, number(result, "replaced"));
	if (json_is_integer(json_object_get(result, "snapshot_id")))
		duct_buf_printf(to, ", snapshot %" PRId64, number(result, "snapshot_id"));
	duct_buf_putc(to, '\n');
}

static int run_one(const char *config, const struct request *r, const char *partition, struct duct_error *err)
{
	struct cli_here here = {.kind = run_job_ingest.kind, .partition = partition, .put_result = put_result};
	here.input = json_pack("{s:s,s:s,s:s*}", "config", config, "name", r->file, "partition", partition);
	if (!here.input)
		return duct_fail(err, DUCT_CONFIG, "\"%s\": not UTF-8", r->file);
	return cli_run_here(&here, err);
}

static int run_range(const char *config, const struct request *r, struct duct_error *err)
{
	json_t *keys, *key;
	size_t i;
	int rc = run_ingest_partitions(config, r->file, r->from, r->to, &keys, err);
	if (rc)
		return rc;
	json_array_foreach(keys, i, key)
	{
		rc = run_one(config, r, json_string_value(key), err);
		if (rc)
			break;
	}
	json_decref(keys);
	return rc;
}

static int run(int argc, char **argv, struct duct_error *err)
{
	struct request r = {0};
	const struct cli_flag flags[] = {{"partition", NULL, &r.partition}, {"from", NULL, &r.from},	   {"to", NULL, &r.to},
					 {"into", NULL, &r.into},	    {"replace", &r.replace, NULL}, {0}};
	AUTO_BUF struct duct_buf config = {0};
	int rc = cli_flags_parse(argc, argv, flags, &r.file, 1, 1, "a file", err);
	if (rc < 0)
		return rc;
	if (!r.from != !r.to || (r.from && r.partition))
		return duct_fail(err, DUCT_CONFIG, "either --partition, or --from and --to");
	if (r.replace && !r.into)
		return duct_fail(err, DUCT_CONFIG, "--replace goes with --into; an ingestion file says it itself (write: replace)");
	if (!r.into && is_data(r.file))
		return duct_fail(err, DUCT_CONFIG, "\"%s\" is a file of rows: say into which table (--into SCHEMA.TABLE)", r.file);
	rc = r.into ? write_text(&r, &config, err) : read_text(r.file, &config, err);
	if (rc)
		return rc;
	return r.from ? run_range(config.data, &r, err) : run_one(config.data, &r, r.partition, err);
}

const struct cli_command cli_ingest = {
	.name = "ingest",
	.usage = "ingest FILE.yaml [--partition P | --from P --to P]\n"
		 "       ductstream ingest DATA --into SCHEMA.TABLE [--replace]",
	.summary = "put what an HTTP API or files have into a table of the lake",
	.help = "FILE.yaml says what is asked for and where it goes (docs/ingest.md). P is a\n"
		"partition, as 2024-10-15; from and to are both done. DATA is a CSV, JSON lines,\n"
		"Parquet or Excel file, a pattern (\"*.csv\"), or an s3:// address; its rows are\n"
		"added to the table, or with --replace take the place of what is there; FILE.yaml\n"
		"with type: files also merges them.\n\n"
		"The lake is that of the environment: DUCKLAKE_CATALOG (sqlite:PATH or\n"
		"postgres:DSN) and DUCKLAKE_DATA_PATH. All rows of a partition become visible in\n"
		"one commit; done again, it leaves the same rows where the file says merge.",
	.holds_signals = true,
	.run = run,
};
