/*
 * Drives src/lake from a test: one command a line on stdin, fields separated by tabs, "\N" for NULL, backslash escapes
 * \t \n \\ in fields. Answers one line each: "ok ...", "again" (lake_txn_commit returned 1) or "err CLASS MESSAGE".
 * A table in a command is a handle: the number of the `create` or `table` command of this txn, from 0.
 */
#include "lake/catalog.h"
#include "lake/marks.h"
#include "lake/parquet.h"
#include "lake/txn.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

static struct {
	struct lake *lake;
	struct lake_txn *txn;
	struct lake_txn_table *tables[64];
	int ntables;
	struct lake_new_file *file; /* being described */
	struct duck_db *db;	    /* of `rows`, with the two below */
	struct duck_conn *conn;
	struct lake_points *points;
	struct duct_arena arena;
	struct duct_ctx ctx;
	atomic_bool stop;
} d;

static char *unescape(char *s)
{
	if (strcmp(s, "\\N") == 0)
		return NULL;
	char *to = s;
	for (char *from = s; *from; from++)
		if (*from == '\\' && from[1]) {
			from++;
			*to++ = *from == 't' ? '\t' : *from == 'n' ? '\n' : *from;
		} else {
			*to++ = *from;
		}
	*to = 0;
	return s;
}

/* --- types as duct_type_print() shows them --- */

static struct duct_type parse_type(const char **at);

static void parse_children(const char **at, struct duct_type *type, bool named)
{
	struct duct_type *children = duct_arena_zalloc(&d.arena, 32 * sizeof *children);
	do {
		while (**at == ' ' || **at == ',' || **at == '(')
			(*at)++;
		const char *name = type->kind == DUCT_LIST ? "element" : type->nchildren ? "value" : "key";
		if (named) {
			size_t n = strcspn(*at, " ");
			char *copy = duct_arena_zalloc(&d.arena, n + 1);
			memcpy(copy, *at, n);
			name = copy;
			*at += n + 1;
		}
		children[type->nchildren] = parse_type(at);
		children[type->nchildren++].name = name;
	} while (**at == ',');
	(*at)++;
	type->children = children;
}

static struct duct_type parse_type(const char **at)
{
	struct duct_type type = {0};
	size_t n = 0;
	while (isalnum((unsigned char)(*at)[n]))
		n++;
	for (int i = DUCT_BOOL; duct_kind_name((enum duct_kind)i); i++)
		if (strlen(duct_kind_name((enum duct_kind)i)) == n && strncmp(*at, duct_kind_name((enum duct_kind)i), n) == 0)
			type.kind = (enum duct_kind)i;
	if (!type.kind)
		abort();
	*at += n;
	if (type.kind == DUCT_DECIMAL) {
		int p, s, used = 0;
		if (sscanf(*at, "(%d,%d)%n", &p, &s, &used) != 2)
			abort();
		type.precision = (uint8_t)p;
		type.scale = (uint8_t)s;
		*at += used;
	} else if (type.kind >= DUCT_LIST) {
		parse_children(at, &type, type.kind == DUCT_STRUCT);
	}
	return type;
}

/* --- commands --- */

static int answer(int result, struct duct_error *err)
{
	if (result < 0)
		printf("err %s %s\n", duct_class_name(err->class), err->message);
	else if (result == 1)
		puts("again");
	return result;
}

static struct lake_txn_table *handle(const char *text)
{
	return d.tables[atoi(text)];
}

static int64_t number(const char *text)
{
	return strtoll(text, NULL, 10);
}

static int open_lake(char **f, struct duct_error *err)
{
	struct lake_config config = {
		.catalog = f[1],
		.data_path = f[2],
		.metadata_schema = f[3],
		.flow = f[4],
		.create = strchr(f[5], 'c') != NULL,
		.create_indexes = strchr(f[5], 'i') != NULL,
		.read_only = strchr(f[5], 'r') != NULL,
		.remote = strchr(f[5], 'u') != NULL,
		.busy_timeout_ms = strchr(f[5], 'p') ? 60000 : 2000, /* patient */
	};
	lake_close(d.lake);
	d.lake = NULL;
	if (lake_open(&d.lake, &config, &d.ctx, err))
		return -(int)err->class;
	struct duct_checkpoint point;
	lake_checkpoint(d.lake, &point);
	printf("ok %lld %d %llx %s %s\n", (long long)lake_snapshot_id(d.lake), (int)point.state, (unsigned long long)point.pos.lsn,
	       lake_data_path(d.lake), lake_uuid(d.lake));
	return 0;
}

static int sync_lake(struct duct_error *err)
{
	struct lake_change_note *notes = NULL;
	size_t n = 0;
	if (lake_sync(d.lake, &notes, &n, err))
		return -(int)err->class;
	printf("ok %lld", (long long)lake_snapshot_id(d.lake));
	for (size_t i = 0; i < n; i++)
		printf(" %lld:%u:%lld:%s", (long long)notes[i].table_id, notes[i].changes, (long long)notes[i].snapshot_id,
		       notes[i].author);
	puts("");
	free(notes);
	return 0;
}

/* create SCHEMA NAME (COLUMN TYPE DEFAULT)... */
static int create(char **f, int n, struct duct_error *err)
{
	struct lake_column_def defs[64];
	struct duct_type types[64];
	int ncols = 0;
	for (int i = 3; i + 2 < n; i += 3, ncols++) {
		const char *at = f[i + 1];
		types[ncols] = parse_type(&at);
		defs[ncols] = (struct lake_column_def){f[i], &types[ncols], f[i + 2]};
	}
	int ret = lake_txn_create_table(d.txn, f[1], f[2], defs, ncols, &d.tables[d.ntables], err);
	if (ret)
		return ret;
	printf("ok %d %s\n", d.ntables, lake_txn_table_path(d.tables[d.ntables]));
	d.ntables++;
	return 0;
}

static int alter(char **f, struct duct_error *err)
{
	const char *at = f[4];
	struct duct_type type = {0};
	int ret = 0;
	if (strcmp(f[0], "add") == 0) {
		type = parse_type(&at);
		struct lake_column_def def = {f[3], &type, f[5]};
		ret = lake_txn_add_column(d.txn, handle(f[1]), &def, err);
	} else if (strcmp(f[0], "drop") == 0) {
		ret = lake_txn_drop_column(d.txn, handle(f[1]), number(f[2]), err);
	} else if (strcmp(f[0], "rename") == 0) {
		ret = lake_txn_rename_column(d.txn, handle(f[1]), number(f[2]), f[3], err);
	} else if (strcmp(f[0], "retype") == 0) {
		type = parse_type(&at);
		ret = lake_txn_retype_column(d.txn, handle(f[1]), number(f[2]), &type, err);
	} else {
		ret = lake_txn_rename_table(d.txn, handle(f[1]), f[2], f[3], err);
	}
	if (ret == 0)
		puts("ok");
	return ret;
}

static void print_columns(const struct lake_column *columns, int n)
{
	printf("ok");
	for (int i = 0; i < n; i++) {
		AUTO_BUF struct duct_buf text = {0};
		duct_type_print(&text, &columns[i].type);
		printf("\t%lld\t%s\t%s\t%s\t", (long long)columns[i].id, columns[i].name, text.data,
		       columns[i].initial_default ? columns[i].initial_default : "\\N");
		for (int k = 0; k < columns[i].nleaf_ids; k++)
			printf("%s%lld", k ? "," : "", (long long)columns[i].leaf_ids[k]);
	}
	puts("");
}

/* file PATH RECORDS BYTES FOOTER EXPLICIT / stat COLUMN BYTES VALUES NULLS NAN MIN MAX / put HANDLE */
static void describe_file(char **f)
{
	if (strcmp(f[0], "file") == 0) {
		d.file = duct_xcalloc(1, sizeof *d.file);
		duct_arena_init(&d.file->arena);
		d.file->path = duct_xstrdup(f[1]);
		d.file->record_count = number(f[2]);
		d.file->size_bytes = number(f[3]);
		d.file->footer_size = number(f[4]);
		d.file->explicit_row_ids = f[5][0] == '1';
	} else if (strcmp(f[0], "stat") == 0) {
		struct lake_column_stats *stats = duct_xrealloc(d.file->stats, ((size_t)d.file->nstats + 1) * sizeof *stats);
		stats[d.file->nstats++] = (struct lake_column_stats){
			.column_id = number(f[1]),
			.size_bytes = number(f[2]),
			.value_count = number(f[3]),
			.null_count = number(f[4]),
			.contains_nan = (int)number(f[5]),
			.min = f[6] ? duct_arena_strdup(&d.file->arena, f[6]) : NULL,
			.max = f[7] ? duct_arena_strdup(&d.file->arena, f[7]) : NULL,
		};
		d.file->stats = stats;
	} else {
		printf("ok %d\n", lake_txn_add_file(d.txn, handle(f[1]), d.file));
		d.file = NULL;
		return;
	}
	puts("ok");
}

/* values VALUE... (of the described file) / partition HANDLE (COLUMN TRANSFORM)... / drop HANDLE / share HANDLE /
 * mapping HANDLE (NAME COLUMN PARENT IS_PARTITION)... (of the described file, which comes first) */
static int lay_out(char **f, int n, struct duct_error *err)
{
	struct lake_partition_key keys[8];
	struct lake_field_name names[64];
	int64_t known = -1;
	size_t count = 0;
	if (strcmp(f[0], "values") == 0) {
		const char **values = duct_arena_zalloc(&d.file->arena, (size_t)n * sizeof *values);
		for (int i = 1; i < n; i++)
			values[i - 1] = f[i] ? duct_arena_strdup(&d.file->arena, f[i]) : NULL;
		d.file->partition_values = values;
		d.file->npartition_values = n - 1;
	} else if (strcmp(f[0], "partition") == 0) {
		for (int i = 2; i + 1 < n; i += 2)
			keys[count++] = (struct lake_partition_key){number(f[i]), f[i + 1]};
		if (lake_txn_set_partition(d.txn, handle(f[1]), keys, (int)count, err))
			return -(int)err->class;
	} else if (strcmp(f[0], "mapping") == 0) {
		for (int i = 2; i + 3 < n; i += 4)
			names[count++] = (struct lake_field_name){f[i], number(f[i + 1]), atoi(f[i + 2]), f[i + 3][0] == '1'};
		const struct lake_table *t = lake_find_table(d.lake, f[n - 2], f[n - 1]);
		if (t && lake_find_mapping(d.lake, t->id, names, count, &known, err))
			return -(int)err->class;
		d.file->mapping = lake_txn_add_mapping(d.txn, handle(f[1]), names, count, known);
	} else if (strcmp(f[0], "share") == 0) {
		lake_txn_share(handle(f[1]));
	} else {
		lake_txn_drop_table(d.txn, handle(f[1]));
	}
	puts("ok");
	return 0;
}

static void die_rows(char **f, int n)
{
	if (strcmp(f[0], "mark") == 0) { /* mark HANDLE FILE POSITION... */
		struct lake_positions positions = {0};
		for (int i = 3; i < n; i++)
			lake_positions_add(&positions, number(f[i]), INT64_MAX);
		lake_txn_mark(d.txn, handle(f[1]), number(f[2]), &positions);
	} else if (strcmp(f[0], "deletes") == 0) { /* deletes HANDLE FILE ON_NEW PATH COUNT BYTES FOOTER */
		struct lake_new_delete_file file = {.path = duct_xstrdup(f[4]),
						    .count = number(f[5]),
						    .size_bytes = number(f[6]),
						    .footer_size = number(f[7])};
		lake_txn_add_delete_file(d.txn, handle(f[1]), number(f[2]), (int)number(f[3]), &file);
	} else if (strcmp(f[0], "end") == 0) {
		lake_txn_end_file(d.txn, handle(f[1]), number(f[2]));
	} else {
		lake_txn_truncate(d.txn, handle(f[1]));
	}
	puts("ok");
}

static int commit(char **f, struct duct_error *err)
{
	struct lake_commit_info info = {
		.pos = {strtoull(f[1], NULL, 16), number(f[1]) ? 1700000000123456 : 0},
		.state = DUCT_STATE_STREAMING,
		.source_identity = f[2],
		.message = "ductstream test",
	};
	struct lake_txn_result result;
	int ret = lake_txn_commit(d.txn, &info, &result, err);
	if (ret == 0) {
		printf("ok %lld", (long long)result.snapshot_id);
		for (size_t i = 0; i < result.nfiles; i++)
			printf(" %lld:%lld", (long long)result.files[i].file_id, (long long)result.files[i].row_id_start);
		puts("");
	}
	return ret;
}

static int list_files(int64_t table_id, struct duct_error *err)
{
	struct lake_file *files;
	size_t n;
	struct lake_mark_set set = {0};
	if (lake_list_files(d.lake, table_id, &d.arena, &files, &n, err) || lake_read_marks(d.lake, table_id, &set, err))
		return -(int)err->class;
	printf("ok");
	for (size_t i = 0; i < n; i++) {
		size_t nmarks;
		printf("\t%lld %lld %lld %lld %lld %lld %s", (long long)files[i].id, (long long)files[i].record_count,
		       (long long)files[i].row_id_start, (long long)files[i].delete_count, (long long)files[i].mark_count,
		       (long long)files[i].partial_max, files[i].path);
		int64_t *marks = lake_mark_set_list(&set, files[i].id, &nmarks);
		for (size_t k = 0; k < nmarks; k++)
			printf("%s%lld", k ? "," : " ", (long long)marks[k]);
		free(marks);
	}
	lake_mark_set_done(&set);
	puts("");
	return 0;
}

/* of each live file: its id, then the value of each partition key */
static int list_values(int64_t table_id, struct duct_error *err)
{
	struct lake_file *files;
	size_t n;
	if (lake_list_files(d.lake, table_id, &d.arena, &files, &n, err))
		return -(int)err->class;
	printf("ok");
	for (size_t i = 0; i < n; i++) {
		printf("\t%lld", (long long)files[i].id);
		for (int k = 0; files[i].partition_values && k < lake_table_by_id(d.lake, table_id)->npartition_keys; k++)
			printf(" %s", files[i].partition_values[k] ? files[i].partition_values[k] : "\\N");
	}
	puts("");
	return 0;
}

static int find(const char *schema, const char *name)
{
	const struct lake_table *t = lake_find_table(d.lake, schema, name);
	if (!t) {
		puts("ok -1");
		return 0;
	}
	printf("ok %lld %lld %lld %lld %lld %s", (long long)t->id, (long long)t->record_count, (long long)t->next_row_id,
	       (long long)t->file_size_bytes, (long long)t->max_column_id, t->path);
	for (int i = 0; i < t->ncolumn_stats; i++)
		printf("\t%lld,%d,%d,%s,%s", (long long)t->column_stats[i].column_id, t->column_stats[i].contains_null,
		       t->column_stats[i].contains_nan, t->column_stats[i].min ? t->column_stats[i].min : "\\N",
		       t->column_stats[i].max ? t->column_stats[i].max : "\\N");
	puts("");
	return 0;
}

static void set_relation(char **f)
{
	struct lake_relation relation = {.source_oid = (uint32_t)number(f[1]),
					 .source_schema = "public",
					 .source_name = f[3],
					 .columns = "{}",
					 .state = "streaming"};
	lake_txn_set_relation(d.txn, &relation, f[2] ? handle(f[2]) : NULL);
	puts("ok");
}

/* --- rows of data files --- */

/* Position and row id, then each value: its bytes in hex, or length and sum of long ones. */
static int print_rows(void *arg, const struct duct_batch *batch, const int64_t *positions, const int64_t *row_ids,
		      struct duct_error *err)
{
	struct duct_buf *to = arg;
	(void)err;
	for (uint32_t row = 0; row < batch->rows; row++) {
		duct_buf_printf(to, "\t%lld %lld", (long long)positions[row], (long long)row_ids[row]);
		for (int c = 0; c < batch->relation->ncolumns; c++) {
			struct duct_cell cell = duct_vector_cell(&batch->columns[c], row);
			duct_buf_puts(to, cell.data ? " =" : " N");
			if (cell.len > 64)
				duct_buf_printf(to, "#%u:%08lx", cell.len, crc32(0, (const Bytef *)cell.data, cell.len));
			for (uint32_t i = 0; i < cell.len && cell.len <= 64; i++)
				duct_buf_printf(to, "%02x", (unsigned char)cell.data[i]);
		}
	}
	return 0;
}

/* rows PATH ROW_ID_START POSITION,... (COLUMN TYPE DEFAULT)...: "point" or "duckdb", bytes and reads, then the rows */
static int read_rows(char **f, int n, struct duct_error *err)
{
	struct lake_column columns[64] = {0};
	const struct lake_column *wanted[64];
	struct lake_file file = {.path = f[1], .row_id_start = number(f[2]), .delete_file_id = -1, .partial_max = -1};
	struct duct_buf text AUTO_BUF = {0};
	AUTO_FREE int64_t *positions = duct_xcalloc(strlen(f[3]) + 1, sizeof *positions);
	size_t npositions = 0;
	int ncolumns = 0;
	for (char *at = f[3], *one; (one = strsep(&at, ",")) && *one;)
		positions[npositions++] = number(one);
	for (int i = 4; i + 2 < n; i += 3, ncolumns++) {
		const char *at = f[i + 1];
		columns[ncolumns] = (struct lake_column){.id = number(f[i]), .name = "c", .initial_default = f[i + 2]};
		columns[ncolumns].type = parse_type(&at);
		wanted[ncolumns] = &columns[ncolumns];
	}
	d.db = d.db ? d.db : duck_open();
	d.conn = d.conn ? d.conn : duck_connect(d.db);
	d.points = d.points ? d.points : lake_points_new();
	struct lake_points_counts before = lake_points_counts(d.points);
	if (lake_read_rows(d.points, d.conn, &file, wanted, ncolumns, positions, npositions, print_rows, &text, err))
		return -(int)err->class;
	struct lake_points_counts after = lake_points_counts(d.points);
	printf("ok %s %llu %llu%s\n", after.elsewhere_rows > before.elsewhere_rows ? "duckdb" : "point",
	       (unsigned long long)(after.bytes - before.bytes), (unsigned long long)(after.reads - before.reads),
	       text.data ? text.data : "");
	return 0;
}

static int run(char **f, int n, struct duct_error *err)
{
	const char *c = f[0];
	const struct lake_column *columns;
	if (strcmp(c, "open") == 0)
		return open_lake(f, err);
	if (strcmp(c, "sync") == 0)
		return sync_lake(err);
	if (strcmp(c, "rows") == 0)
		return read_rows(f, n, err);
	if (strcmp(c, "copying") == 0) {
		int ret = lake_begin_copy(d.lake, f[1], err);
		if (ret == 0)
			puts("ok");
		return ret;
	}
	if (strcmp(c, "begin") == 0) {
		lake_txn_free(d.txn);
		d.txn = lake_txn_new(d.lake);
		d.ntables = 0;
		puts("ok");
	} else if (strcmp(c, "create") == 0) {
		return create(f, n, err);
	} else if (strcmp(c, "table") == 0) {
		d.tables[d.ntables] = lake_txn_table(d.txn, number(f[1]));
		printf("ok %d\n", d.tables[d.ntables] ? d.ntables++ : -1);
	} else if (strcmp(c, "columns") == 0) {
		int count = lake_txn_columns(handle(f[1]), &columns);
		print_columns(columns, count);
	} else if (strcmp(c, "file") == 0 || strcmp(c, "stat") == 0 || strcmp(c, "put") == 0) {
		describe_file(f);
	} else if (strcmp(c, "mark") == 0 || strcmp(c, "deletes") == 0 || strcmp(c, "end") == 0 || strcmp(c, "truncate") == 0) {
		die_rows(f, n);
	} else if (strcmp(c, "values") == 0 || strcmp(c, "partition") == 0 || strcmp(c, "mapping") == 0 ||
		   strcmp(c, "share") == 0 || strcmp(c, "drop_table") == 0) {
		return lay_out(f, n, err);
	} else if (strcmp(c, "relation") == 0) {
		set_relation(f);
	} else if (strcmp(c, "commit") == 0) {
		return commit(f, err);
	} else if (strcmp(c, "files") == 0) {
		return list_files(number(f[1]), err);
	} else if (strcmp(c, "file_values") == 0) {
		return list_values(number(f[1]), err);
	} else if (strcmp(c, "find") == 0) {
		return find(f[1], f[2]);
	} else {
		return alter(f, err);
	}
	return 0;
}

int main(void)
{
	static const struct duct_log log;
	d.ctx = (struct duct_ctx){.log = &log, .flow = "test", .stop = &d.stop, .stop_fd = -1};
	duct_arena_init(&d.arena);
	char *line = NULL;
	size_t cap = 0;
	ssize_t len;
	while ((len = getline(&line, &cap, stdin)) > 0) {
		if (line[len - 1] == '\n')
			line[len - 1] = 0;
		char *fields[4200] = {0}, *at = line;
		int n = 0;
		for (char *field; (field = strsep(&at, "\t")) && n < 4100;)
			fields[n++] = unescape(field);
		struct duct_error err = {0};
		answer(run(fields, n, &err), &err);
		fflush(stdout);
	}
	free(line);
	lake_new_file_free(d.file);
	lake_txn_free(d.txn);
	lake_close(d.lake);
	lake_points_free(d.points);
	duck_disconnect(d.conn);
	duck_close(d.db);
	duct_arena_done(&d.arena);
	return 0;
}
