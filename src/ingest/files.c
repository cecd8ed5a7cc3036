/* Files to a table: DuckDB reads them and writes what they have; the rest of the road is that of all runs (commit.c). */
#include "ingest/files.h"

#include <string.h>
#include <strings.h>

#include "duck/s3.h"
#include "duck/session.h"
#include "ingest/query.h"

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

/* --- the statement --- */

static int put_options(const struct ingest_spec *spec, struct ingest_query *q, struct duct_error *err)
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
		q->typed &= strcmp(name.data, "all_varchar") != 0;
		q->skips |= strcmp(name.data, "skip") == 0 || strcmp(name.data, "auto_detect") == 0;
		q->ranged |= strcmp(name.data, "range") == 0;
		q->stops |= strcmp(name.data, "stop_at_empty") == 0;
		q->delim |= strcmp(name.data, "delim") == 0 || strcmp(name.data, "sep") == 0;
		duct_buf_printf(&q->options, ", %s = ", name.data);
		if (value->kind == JSON_KIND_STRING) {
			json_unescape(&doc, value, &text);
			if (strcmp(name.data, "sheet") == 0)
				q->sheet = duct_arena_dup(&q->arena, text.data, text.len + 1);
			duct_buf_sql_literal_n(&q->options, text.data, text.len);
		} else {
			duct_buf_append(&q->options, doc.text + value->at, value->len);
		}
	}
	json_done(&doc);
	return rc;
}

static int put_query(struct ingest_load *l, int format, struct ingest_query *q, struct duct_error *err)
{
	static const char *const readers[] = {NULL, "read_csv", "read_json", "read_parquet", "read_xlsx"};
	char *const *files = l->spec->main.files;
	if (format == FORMAT_EXCEL && files[1])
		return duct_fail(err, DUCT_CONFIG, "files: Excel files are read one at a time");
	q->csv = q->typed = format == FORMAT_CSV;
	q->json = format == FORMAT_JSON;
	q->parquet = format == FORMAT_PARQUET;
	q->excel = format == FORMAT_EXCEL;
	duct_buf_puts(&q->options, "");
	if (put_options(l->spec, q, err))
		return -(int)err->class;
	if (q->excel && !q->ranged && !q->stops)
		duct_buf_puts(&q->options, ", stop_at_empty = false"); /* what is below an empty row is left out otherwise */
	if (q->excel)
		duct_buf_sql_literal(&q->files, files[0]);
	else if (ingest_query_find(l, q, err) || ingest_query_look(l, q, err))
		return -(int)err->class;
	duct_buf_printf(&q->reader,
			format == FORMAT_EXCEL ? "SELECT * FROM %s(%s%s" : "SELECT * FROM %s([%s], union_by_name = true%s",
			readers[format], q->files.data, q->options.data);
	return 0;
}

/* --- who may read them --- */

/* The server and keys of the files: those of the section s3, else those of the lake. */
static int find_s3(const struct ingest_spec *spec, struct s3_options *ret, struct duct_error *err)
{
	const struct ingest_s3 *s = &spec->s3;
	AUTO_FREE char *ignored = NULL;
	if (!spec->has_s3)
		return s3_options_of_lake(ret, &ignored, err);
	s3_options_from_env(ret);
	s3_options_set(&ret->endpoint, s->endpoint);
	s3_options_set(&ret->region, s->region);
	s3_options_set(&ret->access_key, s->access_key);
	s3_options_set(&ret->secret_key, s->secret_key);
	s3_options_set(&ret->session_token, s->session_token);
	s3_options_set(&ret->role_arn, s->role_arn);
	s3_options_set(&ret->external_id, s->external_id);
	s3_options_set(&ret->ca_file, s->ca_file);
	return 0;
}

static int allow(struct duck_conn *conn, const struct ingest_spec *spec, const struct duct_ctx *ctx, struct duct_error *err)
{
	struct s3_options options = {0};
	struct aws_credentials *credentials = NULL;
	int rc = find_s3(spec, &options, err);
	if (!rc) {
		credentials = aws_credentials_open(&options, ctx->stop_fd);
		rc = duck_allow_s3(conn, "files_s3", NULL, &options, credentials, NULL, err);
	}
	aws_credentials_close(credentials);
	s3_options_done(&options);
	return rc;
}

static int load_extensions(struct duck_conn *conn, const struct ingest_spec *spec, int format, const struct duct_ctx *ctx,
			   struct duct_error *err)
{
	bool remote = false, s3 = false;
	for (char *const *file = spec->main.files; *file; file++) {
		remote |= strstr(*file, "://") != NULL;
		s3 |= s3_is_url(*file);
	}
	if (format == FORMAT_EXCEL && duck_load_extension(conn, "excel", err))
		return -(int)err->class;
	if (remote && duck_load_extension(conn, "httpfs", err))
		return -(int)err->class;
	return s3 ? allow(conn, spec, ctx, err) : 0;
}

/* --- the whole --- */

static int run(struct ingest_load *l, struct duct_error *err)
{
	struct ingest_query q = {0};
	int format;
	duct_arena_init(&q.arena);
	int rc = format_of(l->spec, &format, err);
	rc = rc ? rc : load_extensions(l->conn, l->spec, format, l->ctx, err);
	rc = rc ? rc : put_query(l, format, &q, err);
	rc = rc ? rc : ingest_query_learn(l, &q, err);
	l->query = &q;
	l->report->progress(l->report->arg, 0, "rows", "reading");
	rc = rc ? rc : ingest_commit(l, err);
	ingest_load_done(l, rc != -DUCT_DATA && rc != -DUCT_CONFIG);
	duct_buf_done(&q.reader);
	duct_buf_done(&q.files);
	duct_buf_done(&q.options);
	duct_arena_done(&q.arena);
	return rc;
}

int ingest_files(const struct ingest_spec *spec, struct ingest_place *place, const struct duct_ctx *ctx,
		 const struct ingest_report *report, struct ingest_result *ret, struct duct_error *err)
{
	const struct ingest_window all = {0};
	struct duck_session *session;
	*ret = (struct ingest_result){.snapshot_id = -1};
	int rc = duck_session_open(&session, err);
	if (rc)
		return rc;
	struct ingest_load l;
	ingest_load_init(&l, spec, &all, place, ctx, report, ret);
	l.conn = duck_connect(duck_session_db(session));
	rc = run(&l, err);
	duck_session_close(session);
	return rc ? duct_wrap(err, "\"%s\"%s into \"%s\"", spec->main.files[0], spec->main.files[1] ? ", …" : "", spec->main.into)
		  : 0;
}
