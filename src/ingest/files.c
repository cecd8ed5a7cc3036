/* Files to a table: DuckDB reads them, src/land puts them in. */
#include "ingest/files.h"

#include <string.h>
#include <strings.h>

#include "duck/session.h"
#include "ingest/json.h"
#include "land/land.h"

enum { FORMAT_AUTO, FORMAT_CSV, FORMAT_JSON, FORMAT_PARQUET, FORMAT_EXCEL };

static bool ends(const char *path, const char *with)
{
	size_t n = strlen(path), m = strlen(with);
	return n >= m && strcasecmp(path + n - m, with) == 0;
}

static int format_of(const struct ingest_spec *spec, int *ret, struct duct_error *err)
{
	static const struct {
		const char *with;
		int format;
	} names[] = {{".csv", FORMAT_CSV},	 {".tsv", FORMAT_CSV},	       {".csv.gz", FORMAT_CSV},	 {".csv.zst", FORMAT_CSV},
		     {".json", FORMAT_JSON},	 {".jsonl", FORMAT_JSON},      {".ndjson", FORMAT_JSON}, {".json.gz", FORMAT_JSON},
		     {".jsonl.gz", FORMAT_JSON}, {".parquet", FORMAT_PARQUET}, {".xlsx", FORMAT_EXCEL}};
	*ret = spec->main.format;
	for (size_t i = 0; *ret == FORMAT_AUTO && i < DUCT_LEN(names); i++)
		if (ends(spec->main.files[0], names[i].with))
			*ret = names[i].format;
	return *ret ? 0
		    : duct_fail(err, DUCT_CONFIG, "files: what \"%.200s\" is, is not to be seen by its name: say so in \"format\"",
				spec->main.files[0]);
}

static int put_options(const struct ingest_spec *spec, struct duct_buf *sql, struct duct_error *err)
{
	const char *map = spec->main.read_options;
	struct json_doc doc = {0};
	int rc = map ? json_parse(&doc, map, strlen(map), err) : 0;
	for (uint32_t i = 1; map && !rc && i < doc.nodes[0].end; i = doc.nodes[i + 1].end) {
		AUTO_BUF struct duct_buf name = {0}, text = {0};
		const struct json_node *value = &doc.nodes[i + 1];
		json_unescape(&doc, &doc.nodes[i], &name);
		duct_buf_puts(&name, "");
		duct_buf_puts(&text, "");
		if (strspn(name.data, "abcdefghijklmnopqrstuvwxyz_") != name.len || !name.len || value->kind >= JSON_KIND_ARRAY)
			rc = duct_fail(err, DUCT_CONFIG,
				       "read_options: \"%.60s\": a name of small letters and a plain value are expected",
				       name.data);
		duct_buf_printf(sql, ", %s = ", name.data);
		if (value->kind == JSON_KIND_STRING) {
			json_unescape(&doc, value, &text);
			duct_buf_sql_literal_n(sql, text.data, text.len);
		} else {
			duct_buf_append(sql, doc.text + value->at, value->len);
		}
	}
	json_done(&doc);
	return rc;
}

static int put_query(const struct ingest_spec *spec, int format, struct duct_buf *sql, struct duct_error *err)
{
	static const char *const readers[] = {NULL, "read_csv", "read_json", "read_parquet", "read_xlsx"};
	char *const *files = spec->main.files;
	if (format == FORMAT_EXCEL && files[1])
		return duct_fail(err, DUCT_CONFIG, "files: Excel files are read one at a time");
	duct_buf_printf(sql, "SELECT * FROM %s(", readers[format]);
	if (format == FORMAT_EXCEL) {
		duct_buf_sql_literal(sql, files[0]);
	} else {
		for (size_t i = 0; files[i]; i++) {
			duct_buf_puts(sql, i ? ", " : "[");
			duct_buf_sql_literal(sql, files[i]);
		}
		duct_buf_puts(sql, "], union_by_name = true");
	}
	int rc = put_options(spec, sql, err);
	duct_buf_putc(sql, ')');
	return rc;
}

static int load_extensions(struct duck_conn *conn, const struct ingest_spec *spec, int format, struct duct_error *err)
{
	bool remote = false;
	for (char *const *file = spec->main.files; *file; file++)
		remote |= strstr(*file, "://") != NULL;
	if (format == FORMAT_EXCEL && duck_load_extension(conn, "excel", err))
		return -(int)err->class;
	return remote ? duck_load_extension(conn, "httpfs", err) : 0;
}

static int land(const struct ingest_spec *spec, struct lake *lake, struct duck_conn *conn, const struct ingest_report *report,
		struct ingest_result *ret, struct duct_error *err)
{
	const struct land_target target = {.schema = spec->schema,
					   .table = spec->table,
					   .replace = spec->main.write == INGEST_REPLACE};
	AUTO_BUF struct duct_buf sql = {0};
	struct land_shape shape;
	struct land_files files = {0};
	struct land_result landed;
	struct duct_arena arena;
	int format, rc = format_of(spec, &format, err);
	rc = rc ? rc : load_extensions(conn, spec, format, err);
	rc = rc ? rc : put_query(spec, format, &sql, err);
	if (rc)
		return rc;
	duct_arena_init(&arena);
	rc = land_shape(conn, sql.data, &arena, &shape, err);
	if (!rc && shape.casts)
		report->log(report->arg, "info", shape.casts);
	rc = rc ? rc : land_write(conn, lake, &target, &shape, &files, err);
	rc = rc ? rc : land_commit(lake, &target, &shape, &files, "ingest files", &landed, err);
	if (!rc) {
		ret->rows = files.rows;
		ret->files = (int64_t)files.n;
		ret->bytes = files.bytes;
		ret->snapshot_id = landed.snapshot_id;
		ret->tries = 1;
	}
	land_files_done(&files);
	duct_arena_done(&arena);
	return rc;
}

int ingest_files(const struct ingest_spec *spec, struct lake *lake, const struct duct_ctx *ctx, const struct ingest_report *report,
		 struct ingest_result *ret, struct duct_error *err)
{
	struct duck_session *session;
	(void)ctx;
	int rc = duck_session_open(&session, err);
	if (rc)
		return rc;
	struct duck_conn *conn = duck_connect(duck_session_db(session));
	report->progress(report->arg, 0, "rows", "reading");
	rc = land(spec, lake, conn, report, ret, err);
	duck_disconnect(conn);
	duck_session_close(session);
	return rc ? duct_wrap(err, "read the files of \"%s\"", spec->main.into) : 0;
}
