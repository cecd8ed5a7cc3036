/* Files of other programs: see register.h. */
#include "lake/register.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lake/inline.h"
#include "lake/lake.h"
#include "lake/txn_plan.h"
#include "parquet/format.h"
#include "record/format.h"

enum { FIRST_BYTES = 16 << 10, MOST_FOOTER = 64 << 20 };

/* --- footers --- */

static int read_local(const char *path, int64_t from, size_t n, char *to, struct duct_error *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return duct_fail(err, errno == ENOENT ? DUCT_CONFIG : DUCT_RETRY, "%s", strerror(errno));
	ssize_t got = pread(fd, to, n, from);
	int code = errno;
	close(fd);
	if (got != (ssize_t)n)
		return duct_fail(err, DUCT_RETRY, "%s", got < 0 ? strerror(code) : "it is shorter than it was");
	return 0;
}

static int find_size(struct lake_foreign *file, struct duct_error *err)
{
	struct stat st;
	if (file->size_bytes < 0 && stat(file->path, &st) != 0)
		return duct_fail(err, errno == ENOENT ? DUCT_CONFIG : DUCT_RETRY, "%s", strerror(errno));
	if (file->size_bytes < 0)
		file->size_bytes = st.st_size;
	return 0;
}

struct footers {
	struct lake_foreign *files;
	size_t n;
	struct s3 *s3;
	char **tails; /* the last bytes of each */
	size_t *lens;
};

/* Objects of one bucket that come one after the other. */
struct object_group {
	char *bucket, **keys;
	size_t *of, n; /* which files */
};

static void group_done(struct object_group *g)
{
	for (size_t i = 0; i < g->n; i++)
		free(g->keys[i]);
	free(g->keys);
	free(g->of);
	free(g->bucket);
}

/* Those from *at on that are wanted; *at is where the next group begins then. */
static int next_group(const struct footers *f, const bool *wanted, size_t *at, struct object_group *ret, struct duct_error *err)
{
	*ret = (struct object_group){.keys = duct_xcalloc(f->n, sizeof *ret->keys), .of = duct_xcalloc(f->n, sizeof *ret->of)};
	for (; *at < f->n; ++*at) {
		AUTO_FREE char *bucket = NULL, *key = NULL;
		if (!wanted[*at] || !s3_is_url(f->files[*at].path))
			continue;
		if (s3_url_parse(f->files[*at].path, &bucket, &key, err))
			return -(int)err->class;
		if (ret->bucket && strcmp(ret->bucket, bucket) != 0)
			break;
		if (!ret->bucket)
			ret->bucket = duct_steal(&bucket);
		ret->of[ret->n] = *at;
		ret->keys[ret->n++] = duct_steal(&key);
	}
	return 0;
}

/* What is known of a file after this: its size, and its last lens[i] bytes. */
static int read_group_tails(struct footers *f, const struct object_group *g, struct duct_error *err)
{
	struct s3_tail *tails = duct_xcalloc(g->n + 1, sizeof *tails);
	for (size_t i = 0; i < g->n; i++)
		tails[i] = (struct s3_tail){.key = g->keys[i], .to = f->tails[g->of[i]], .len = FIRST_BYTES};
	int rc = s3_read_tails(f->s3, g->bucket, tails, g->n, err);
	for (size_t i = 0; i < g->n && !rc; i++) {
		f->lens[g->of[i]] = tails[i].len;
		f->files[g->of[i]].size_bytes = (int64_t)tails[i].size;
	}
	free(tails);
	return rc;
}

static int read_group_ranges(struct footers *f, const struct object_group *g, struct duct_error *err)
{
	struct s3_range *ranges = duct_xcalloc(g->n + 1, sizeof *ranges);
	for (size_t i = 0; i < g->n; i++) {
		size_t of = g->of[i];
		ranges[i] =
			(struct s3_range){g->keys[i], (uint64_t)f->files[of].size_bytes - f->lens[of], f->lens[of], f->tails[of]};
	}
	int rc = s3_read_ranges(f->s3, g->bucket, ranges, g->n, err);
	free(ranges);
	return rc;
}

static int read_objects(struct footers *f, const bool *wanted,
			int (*read)(struct footers *, const struct object_group *, struct duct_error *), struct duct_error *err)
{
	int rc = 0;
	for (size_t at = 0; at < f->n && !rc;) {
		struct object_group group;
		rc = next_group(f, wanted, &at, &group, err);
		if (!rc && group.n)
			rc = read(f, &group, err);
		group_done(&group);
	}
	return rc;
}

static int read_first(struct footers *f, const bool *wanted, struct duct_error *err)
{
	for (size_t i = 0; i < f->n; i++) {
		struct lake_foreign *file = &f->files[i];
		f->tails[i] = duct_xmalloc(FIRST_BYTES + 1);
		if (s3_is_url(file->path))
			continue;
		int rc = find_size(file, err);
		f->lens[i] = file->size_bytes < FIRST_BYTES ? (size_t)file->size_bytes : FIRST_BYTES;
		rc = rc ? rc : read_local(file->path, file->size_bytes - (int64_t)f->lens[i], f->lens[i], f->tails[i], err);
		if (rc)
			return duct_wrap(err, "file \"%s\"", file->path);
	}
	return read_objects(f, wanted, read_group_tails, err);
}

static int read_longer(struct footers *f, const bool *wanted, struct duct_error *err)
{
	for (size_t i = 0; i < f->n; i++) {
		struct lake_foreign *file = &f->files[i];
		if (!wanted[i])
			continue;
		f->tails[i] = duct_xrealloc(f->tails[i], f->lens[i] + 1);
		if (!s3_is_url(file->path) &&
		    read_local(file->path, file->size_bytes - (int64_t)f->lens[i], f->lens[i], f->tails[i], err))
			return duct_wrap(err, "file \"%s\"", file->path);
	}
	return read_objects(f, wanted, read_group_ranges, err);
}

/* Which footers are longer than what was read; sets how much of them is to be read. */
static int find_longer(struct footers *f, bool *wanted, bool *ret_any, struct duct_error *err)
{
	for (size_t i = 0; i < f->n; i++) {
		uint32_t length;
		struct lake_foreign *file = &f->files[i];
		const char *tail = f->tails[i] + f->lens[i] - PARQUET_TAIL_BYTES;
		if (parquet_footer_length(tail, (uint64_t)file->size_bytes, &length, err))
			return duct_wrap(err, "file \"%s\"", file->path);
		if (length > MOST_FOOTER)
			return duct_fail(err, DUCT_CONFIG, "file \"%s\": its footer of %" PRIu32 " bytes is too long", file->path,
					 length);
		file->footer_size = length;
		wanted[i] = (size_t)length + PARQUET_TAIL_BYTES > f->lens[i];
		if (wanted[i])
			f->lens[i] = (size_t)length + PARQUET_TAIL_BYTES;
		*ret_any |= wanted[i];
	}
	return 0;
}

static int read_all(struct footers *f, struct duct_arena *arena, struct duct_error *err)
{
	AUTO_FREE bool *wanted = duct_xmalloc(f->n + 1);
	bool longer = false;
	memset(wanted, true, f->n);
	if (read_first(f, wanted, err))
		return -(int)err->class;
	for (size_t i = 0; i < f->n; i++)
		if (f->files[i].size_bytes < PARQUET_TAIL_BYTES + PARQUET_MAGIC_BYTES)
			return duct_fail(err, DUCT_FATAL, "file \"%s\" has %" PRId64 " bytes: it is no Parquet file",
					 f->files[i].path, f->files[i].size_bytes);
	if (find_longer(f, wanted, &longer, err) || (longer && read_longer(f, wanted, err)))
		return -(int)err->class;
	for (size_t i = 0; i < f->n; i++) {
		struct lake_foreign *file = &f->files[i];
		const char *footer = f->tails[i] + f->lens[i] - PARQUET_TAIL_BYTES - file->footer_size;
		int rc = parquet_describe(footer, (size_t)file->footer_size, arena, &file->is, err);
		if (rc < 0)
			return duct_wrap(err, "file \"%s\"", file->path);
		if (!rc)
			return duct_fail(err, DUCT_CONFIG, "file \"%s\" is encrypted", file->path);
	}
	return 0;
}

int lake_foreign_read(struct lake_foreign *files, size_t n, struct s3 *s3, struct duct_arena *arena, struct duct_error *err)
{
	struct footers f = {.files = files, .n = n, .s3 = s3};
	f.tails = duct_xcalloc(n + 1, sizeof *f.tails);
	f.lens = duct_xcalloc(n + 1, sizeof *f.lens);
	int rc = read_all(&f, arena, err);
	for (size_t i = 0; i < n; i++)
		free(f.tails[i]);
	free(f.tails);
	free(f.lens);
	return rc;
}

const struct parquet_described_column *lake_foreign_column(const struct lake_foreign *file, const char *name)
{
	for (int i = 0; i < file->is.ncolumns; i++)
		if (lake_same_name(file->is.columns[i].name, name))
			return &file->is.columns[i];
	return NULL;
}

/* --- schema --- */

static const struct lake_column *table_column(const struct lake_txn_table *t, const char *name)
{
	const struct lake_column *columns;
	int n = lake_txn_columns(t, &columns);
	for (int i = 0; i < n; i++)
		if (lake_same_name(columns[i].name, name))
			return &columns[i];
	return NULL;
}

/* Values of the file's type can be read as the table's: by clients, who cast what they read. */
static bool reads_as(const struct duct_type *file, const struct duct_type *table)
{
	bool text = file->kind == DUCT_BLOB && table->kind == DUCT_BLOB;
	bool json = file->kind == DUCT_VARCHAR && table->kind == DUCT_JSON;
	return text || json || duct_type_equal(file, table) || duct_type_widens(file, table);
}

static int add_column(struct lake_txn *txn, struct lake_txn_table *t, const struct parquet_described_column *is,
		      enum lake_evolve evolve, struct duct_buf *changes, struct duct_error *err)
{
	AUTO_BUF struct duct_buf type = {0};
	duct_type_print(&type, &is->type);
	if (evolve == LAKE_EVOLVE_REFUSE)
		return duct_fail(err, DUCT_CONFIG, "column \"%s\" (%s) is in the file and not in the table", is->name, type.data);
	const struct lake_column_def def = {.name = is->name, .type = &is->type};
	if (lake_txn_add_column(txn, t, &def, err))
		return -(int)err->class;
	if (changes)
		duct_buf_printf(changes, "%scolumn \"%s\" %s was added", changes->len ? ", " : "", is->name, type.data);
	return 0;
}

static int retype_column(struct lake_txn *txn, struct lake_txn_table *t, const struct lake_column *column,
			 const struct parquet_described_column *is, enum lake_evolve evolve, struct duct_buf *changes,
			 struct duct_error *err)
{
	AUTO_BUF struct duct_buf from = {0}, to = {0};
	duct_type_print(&from, &column->type);
	duct_type_print(&to, &is->type);
	bool widens = column->supported && duct_type_widens(&column->type, &is->type);
	if (!widens || evolve == LAKE_EVOLVE_REFUSE)
		return duct_fail(err, DUCT_CONFIG, "column \"%s\" is %s in the file and %s in the table%s", is->name, to.data,
				 column->supported ? from.data : column->type_name,
				 widens ? ", which would have to be widened" : ": no widening reconciles them");
	if (lake_txn_retype_column(txn, t, column->id, &is->type, err))
		return -(int)err->class;
	if (changes)
		duct_buf_printf(changes, "%scolumn \"%s\" was widened from %s to %s", changes->len ? ", " : "", is->name, from.data,
				to.data);
	return 0;
}

static int check_names(const struct lake_foreign *file, struct duct_error *err)
{
	for (int i = 0; i < file->is.ncolumns; i++)
		for (int k = 0; k < i; k++)
			if (lake_same_name(file->is.columns[i].name, file->is.columns[k].name))
				return duct_fail(err, DUCT_CONFIG, "file \"%s\": the columns \"%s\" and \"%s\" are one to the lake",
						 file->path, file->is.columns[k].name, file->is.columns[i].name);
	return 0;
}

/* Columns that must have values have them. */
static int check_nulls(const struct lake_txn_table *t, const struct lake_foreign *file, struct duct_error *err)
{
	const struct lake_column *columns;
	int n = lake_txn_columns(t, &columns);
	for (int i = 0; i < n && file->is.rows; i++) {
		const struct parquet_described_column *is = lake_foreign_column(file, columns[i].name);
		bool has_nulls = is ? is->nulls > 0 : !columns[i].initial_default;
		if (!columns[i].nulls_allowed && has_nulls)
			return duct_fail(err, DUCT_DATA,
					 "file \"%s\" has no value in column \"%s\" for %s row, which the table demands",
					 file->path, columns[i].name, is ? "some" : "any");
	}
	return 0;
}

int lake_txn_evolve(struct lake_txn *txn, struct lake_txn_table *t, const struct lake_foreign *file, enum lake_evolve evolve,
		    struct duct_buf *changes, struct duct_error *err)
{
	if (check_names(file, err) || check_nulls(t, file, err))
		return -(int)err->class;
	for (int i = 0; i < file->is.ncolumns; i++) {
		const struct parquet_described_column *is = &file->is.columns[i];
		const struct lake_column *column = table_column(t, is->name);
		int rc = 0;
		if (!is->type.kind)
			rc = duct_fail(err, DUCT_CONFIG, "column \"%s\" has a type in the file that the lake has none for (%s)",
				       is->name, is->type_text);
		else if (!column)
			rc = add_column(txn, t, is, evolve, changes, err);
		else if (!column->supported || !reads_as(&is->type, &column->type))
			rc = retype_column(txn, t, column, is, evolve, changes, err);
		if (rc)
			return duct_wrap(err, "file \"%s\"", file->path);
	}
	return 0;
}

/* --- registration --- */

struct names {
	struct lake_field_name *list;
	size_t n, cap;
};

static void put_name(struct names *to, const char *name, int64_t id, int parent)
{
	to->list = duct_grow(to->list, &to->cap, to->n + 1, sizeof *to->list);
	to->list[to->n++] = (struct lake_field_name){.source_name = name, .column_id = id, .parent = parent};
}

static void put_children(struct names *to, const struct duct_type *file, const struct duct_type *table, int parent,
			 const int64_t **next)
{
	for (int i = 0; i < table->nchildren; i++) {
		int place = (int)to->n;
		bool both = i < file->nchildren;
		put_name(to, both ? file->children[i].name : table->children[i].name, *(*next)++, parent);
		put_children(to, both ? &file->children[i] : &table->children[i], &table->children[i], place, next);
	}
}

/* A bound as a value of the table's type; data NULL when there is none. */
static void take_bound(struct duct_buf *to, const struct duct_type *from, struct duct_cell bound, const struct duct_type *into)
{
	struct duct_error ignored;
	if (!bound.data)
		return;
	duct_buf_append(to, NULL, 0);
	if (duct_type_equal(from, into) || !duct_type_widens(from, into))
		duct_buf_append(to, bound.data, bound.len);
	else if (duct_cell_cast(to, from, bound, into, &ignored))
		duct_buf_done(to);
}

static struct lake_column_stats column_stats(const struct lake_foreign *file, const struct parquet_described_column *is,
					     const struct lake_column *column, struct duct_arena *arena)
{
	struct lake_bounds bounds = {.nulls = is->nulls, .values = file->is.rows - is->nulls};
	take_bound(&bounds.min, &is->type, is->min, &column->type);
	take_bound(&bounds.max, &is->type, is->max, &column->type);
	struct lake_column_stats stats = lake_bounds_stats(&bounds, column->id, &column->type, arena);
	stats.size_bytes = is->bytes;
	if (column->type.kind == DUCT_FLOAT32 || column->type.kind == DUCT_FLOAT64)
		stats.contains_nan = -1;
	if (column->type.kind == DUCT_BOOL && stats.min) { /* spelled so for files only */
		stats.min = *bounds.min.data ? "1" : "0";
		stats.max = *bounds.max.data ? "1" : "0";
	}
	lake_bounds_done(&bounds);
	return stats;
}

static struct lake_new_file *new_file(const struct lake_foreign *from, const struct lake_txn_table *t, struct names *names)
{
	struct lake_new_file *file = duct_xcalloc(1, sizeof *file);
	duct_arena_init(&file->arena);
	file->path = duct_xstrdup(from->path);
	file->record_count = from->is.rows;
	file->size_bytes = from->size_bytes;
	file->footer_size = from->footer_size;
	file->written_us = from->written_us;
	file->stats = duct_xcalloc((size_t)from->is.ncolumns + 1, sizeof *file->stats);
	for (int i = 0; i < from->is.ncolumns; i++) {
		const struct parquet_described_column *is = &from->is.columns[i];
		const struct lake_column *column = table_column(t, is->name);
		const int64_t *next = column->leaf_ids;
		int place = (int)names->n;
		put_name(names, is->name, column->id, -1);
		put_children(names, &is->type, &column->type, place, &next);
		if (!column->nleaf_ids && is->nulls >= 0)
			file->stats[file->nstats++] = column_stats(from, is, column, &file->arena);
	}
	return file;
}

static void set_partition(struct lake_new_file *file, const char *const *values, int n)
{
	const char **copy = duct_arena_zalloc(&file->arena, ((size_t)n + 1) * sizeof *copy);
	for (int i = 0; i < n; i++)
		copy[i] = values[i] ? duct_arena_strdup(&file->arena, values[i]) : NULL;
	file->partition_values = n ? copy : NULL;
	file->npartition_values = n;
}

int lake_txn_register(struct lake_txn *txn, struct lake_txn_table *t, const struct lake_foreign *from,
		      const char *const *partition_values, int n, const struct lake_file *live, size_t nlive,
		      struct duct_error *err)
{
	struct names names = {0};
	int64_t known = -1;
	for (size_t i = 0; i < nlive; i++)
		if (strcmp(live[i].path, from->path) == 0)
			return 0;
	if (!from->is.rows)
		return 0;
	struct lake_new_file *file = new_file(from, t, &names);
	int rc = 0, mapping = lake_txn_find_mapping(txn, t, names.list, names.n);
	if (!mapping && !t->is_new)
		rc = lake_find_mapping(txn->lake, t->id, names.list, names.n, &known, err);
	if (rc) {
		lake_new_file_free(file);
	} else {
		set_partition(file, partition_values, n);
		file->mapping = mapping ? mapping : lake_txn_add_mapping(txn, t, names.list, names.n, known);
		lake_txn_add_file(txn, t, file);
	}
	free(names.list);
	return rc ? duct_wrap(err, "file \"%s\"", from->path) : 1;
}
