/* Which files there are, and what their reader would leave out of them, or make something else of, without a word. */
#include "ingest/query.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "net/s3_options.h"

struct found {
	struct duct_buf list, empty; /* literals with commas between them; of files without a byte: the last one */
	size_t n, seen;
	bool leave_empty;
};

/* A name that is none of a pattern, as a pattern. */
static void put_plain(struct duct_buf *to, const char *name)
{
	AUTO_BUF struct duct_buf pattern = {0};
	for (; *name; name++) {
		bool special = *name == '*' || *name == '?' || *name == '[';
		duct_buf_printf(&pattern, special ? "[%c]" : "%c", *name);
	}
	duct_buf_puts(&pattern, "");
	duct_buf_sql_literal(to, pattern.data);
}

static int take_file(void *arg, const char *const *values, struct duct_error *err)
{
	struct found *f = arg;
	(void)err;
	f->seen++;
	f->empty.len = 0;
	struct duct_buf *to = f->leave_empty && strcmp(values[1], "0") == 0 ? &f->empty : &f->list;
	if (to == &f->list)
		duct_buf_puts(to, f->n++ ? ", " : "");
	put_plain(to, values[0]);
	return 0;
}

/* A file of just this name comes before those that it may be a pattern of. What is not there is left to the reader, who says so. */
static int find(struct ingest_load *l, const char *name, struct found *f, struct duct_error *err)
{
	AUTO_BUF struct duct_buf pattern = {0}, sql = {0};
	bool remote = strstr(name, "://") != NULL;
	if (!remote && access(name, F_OK) == 0)
		put_plain(&pattern, name);
	else
		duct_buf_sql_literal(&pattern, name);
	f->seen = 0;
	duct_buf_printf(&sql, "SELECT filename, size::VARCHAR FROM read_blob(%s)", pattern.data);
	if ((!remote || s3_is_url(name)) && duck_rows(l->conn, sql.data, take_file, f, err) < 0)
		return ingest_of_files(err);
	if (!f->seen)
		duct_buf_printf(&f->list, "%s%s", f->n++ ? ", " : "", pattern.data);
	return 0;
}

int ingest_query_find(struct ingest_load *l, struct ingest_query *q, struct duct_error *err)
{
	struct found f = {.leave_empty = q->csv || q->json};
	int rc = 0;
	for (char *const *name = l->spec->main.files; *name && !rc; name++)
		rc = find(l, *name, &f, err);
	duct_buf_puts(&q->files, f.n ? f.list.data : f.empty.data ? f.empty.data : "");
	duct_buf_done(&f.list);
	duct_buf_done(&f.empty);
	return rc;
}

/* --- lines at the top --- */

/* Lines that say something. DuckDB takes the longest run of lines of one width for the table, and those above it for a title. */
static int count_lines(struct ingest_load *l, const char *file, int64_t lines, int64_t *ret, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	duct_buf_printf(
		&sql,
		"SELECT count(*) FROM (SELECT l FROM read_csv(%s, auto_detect = false, header = false, skip = 0, delim = '\001', "
		"quote = '', escape = '', columns = {'l': 'VARCHAR'}) LIMIT %" PRId64
		") WHERE trim(l) <> '' AND NOT starts_with(l, '#')",
		file, lines);
	return duck_number(l->conn, sql.data, ret, err);
}

struct sniffed {
	int64_t lines;
	bool iso;
};

struct looked {
	struct ingest_load *l;
	struct ingest_query *q;
};

static int take_sniffed(void *arg, const char *const *values, struct duct_error *err)
{
	struct sniffed *s = arg;
	(void)err;
	s->lines = strtoll(values[0], NULL, 10);
	s->iso = strcmp(values[1], "true") == 0;
	return 0;
}

static int look_at(void *arg, const char *const *values, struct duct_error *err)
{
	const struct looked *k = arg;
	AUTO_BUF struct duct_buf file = {0}, sql = {0};
	struct duct_error ignored;
	struct sniffed is = {0};
	int64_t said = 1;
	put_plain(&file, values[0]);
	duct_buf_printf(
		&sql,
		"SELECT SkipRows::VARCHAR, (coalesce(DateFormat, '%%Y-%%m-%%d') = '%%Y-%%m-%%d' AND "
		"coalesce(TimestampFormat, '%%Y-%%m-%%d %%H:%%M:%%S') = '%%Y-%%m-%%d %%H:%%M:%%S')::VARCHAR FROM sniff_csv(%s%s)",
		file.data, k->q->options.data);
	int rc = duck_rows(k->l->conn, sql.data, take_sniffed, &is, &ignored);
	k->q->iso &= rc >= 0 && is.iso;
	if (rc < 0 || is.lines <= 0)
		return 0; /* whatever is wrong, the reader says it */
	if (count_lines(k->l, file.data, is.lines, &said, &ignored) == 0 && said == 0)
		return 0;
	return duct_fail(err, DUCT_DATA,
			 "\"%.300s\": its first %" PRId64
			 " lines would be left out, as those below them have another number of columns: "
			 "mend the file, or say that they are no rows (read_options: {skip: %" PRId64 "})",
			 values[0], is.lines, is.lines);
}

/* DuckDB takes the first bytes of what is longer than its decimals for a double. */
static int refuse_decimal(void *arg, const char *const *values, struct duct_error *err)
{
	(void)arg;
	return duct_fail(err, DUCT_DATA, "\"%.300s\": column \"%.100s\" is decimal(%s,%s): more than 38 digits are not read",
			 values[0], values[1], values[2], values[3]);
}

static int look_at_parquet(struct ingest_load *l, const struct ingest_query *q, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	duct_buf_printf(&sql,
			"SELECT file_name, name, precision::VARCHAR, scale::VARCHAR FROM parquet_schema([%s]) "
			"WHERE precision > 38 LIMIT 1",
			q->files.data);
	return duck_rows(l->conn, sql.data, refuse_decimal, NULL, err) < 0 ? ingest_of_files(err) : 0;
}

int ingest_query_look_right(struct ingest_load *l, const struct ingest_query *q, int ncolumns, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	int64_t used = 0;
	if (!q->excel || q->ranged)
		return 0;
	duct_buf_printf(
		&sql,
		"SELECT count(DISTINCT name)::VARCHAR FROM (UNPIVOT (SELECT * FROM read_xlsx(%s, header = false, all_varchar = true, "
		"stop_at_empty = false, range = 'A1:ZZ10000'",
		q->files.data);
	if (q->sheet) {
		duct_buf_puts(&sql, ", sheet = ");
		duct_buf_sql_literal(&sql, q->sheet);
	}
	duct_buf_puts(&sql, ")) ON COLUMNS(*) INTO NAME name VALUE cell)");
	if (duck_number(l->conn, sql.data, &used, err))
		return ingest_of_files(err);
	return used <= ncolumns
		? 0
		: duct_fail(err, DUCT_DATA,
			    "it has %" PRId64
			    " columns, its first row %d: the others would be left out: give each a name there, or say "
			    "which cells are the table (read_options: {range: \"A3:F1000\"})",
			    used, ncolumns);
}

int ingest_query_look(struct ingest_load *l, struct ingest_query *q, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	struct looked looked = {l, q};
	if (q->parquet)
		return look_at_parquet(l, q, err);
	if (!q->csv || q->skips)
		return 0;
	q->iso = true;
	duct_buf_printf(&sql, "SELECT filename FROM read_blob([%s])", q->files.data);
	return duck_rows(l->conn, sql.data, look_at, &looked, err) < 0 ? ingest_of_files(err) : 0;
}
