/* Dead rows of one data file with their snapshots: see deaths.h. */
#include "lake/deaths.h"

#include "base/buf.h"
#include "base/mem.h"
#include "lake/lake.h"
#include "lake/parquet_internal.h"
#include "lake/store.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static void add(struct lake_deaths *d, int64_t position, int64_t snapshot)
{
	if (d->n > LAKE_MOST_DEATHS)
		return;
	d->list = duct_grow(d->list, &d->cap, d->n + 1, sizeof *d->list);
	d->list[d->n++] = (struct lake_row_death){position, snapshot};
}

/* Row numbers that died in one snapshot, with commas between them. */
static int take_marks(void *arg, int set, const char *const *v, struct duct_error *err)
{
	(void)set, (void)err;
	int64_t snapshot = lake_int(v[1], -1);
	for (const char *at = v[0]; at; at += *at == ',') {
		char *end;
		add(arg, strtoll(at, &end, 10), snapshot);
		at = end;
		if (*at != ',')
			break;
	}
	return 0;
}

/* SQLite gives rows one by one; what Postgres answers is in memory as a whole, so it is packed. */
static int read_marks(struct lake_deaths *d, struct lake *lake, int64_t table_id, int64_t file_id, struct duct_error *err)
{
	const char *columns = lake->db->sqlite ? "row_id, begin_snapshot" : "string_agg(row_id::text, ','), begin_snapshot";
	int rc = lake_queryf(lake->db, take_marks, d, err, "SELECT %s FROM @ducklake_inlined_delete_%lld WHERE file_id = %lld%s",
			     columns, (long long)table_id, (long long)file_id, lake->db->sqlite ? "" : " GROUP BY begin_snapshot");
	d->nmarks = d->n;
	return rc;
}

static int read_file(struct lake_deaths *d, struct duck_conn *conn, const struct lake_old_delete_file *f, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	duckdb_result result;
	duckdb_data_chunk chunk;
	if (f->partial_max >= 0) /* else all of them died in one snapshot */
		duct_buf_puts(&sql, "SELECT pos::BIGINT, " LAKE_SNAPSHOT_ID_NAME "::BIGINT FROM read_parquet(");
	else
		duct_buf_printf(&sql, "SELECT pos::BIGINT, %" PRId64 "::BIGINT FROM read_parquet(", f->begin_snapshot);
	duct_buf_sql_literal(&sql, f->path);
	duct_buf_puts(&sql, ", hive_partitioning=false)");
	int rc = duck_query(conn, sql.data, &result, err);
	if (rc)
		return rc;
	for (; (chunk = duckdb_fetch_chunk(result)); duckdb_destroy_data_chunk(&chunk)) {
		const int64_t *at = duckdb_vector_get_data(duckdb_data_chunk_get_vector(chunk, 0));
		const int64_t *snapshots = duckdb_vector_get_data(duckdb_data_chunk_get_vector(chunk, 1));
		for (size_t i = 0, n = duckdb_data_chunk_get_size(chunk); i < n; i++)
			add(d, at[i], snapshots[i]);
	}
	duckdb_destroy_result(&result);
	return 0;
}

static int by_position(const void *a, const void *b)
{
	const struct lake_row_death *x = a, *y = b;
	if (x->position != y->position)
		return x->position < y->position ? -1 : 1;
	return x->snapshot < y->snapshot ? -1 : x->snapshot > y->snapshot;
}

static void sort(struct lake_deaths *d, int64_t rows)
{
	size_t n = 0;
	if (d->n)
		qsort(d->list, d->n, sizeof *d->list, by_position);
	for (size_t i = 0; i < d->n; i++) {
		const struct lake_row_death death = d->list[i];
		if (death.position < 0 || death.position >= rows || (n && d->list[n - 1].position == death.position))
			continue;
		d->first = n && d->first < death.snapshot ? d->first : death.snapshot;
		d->last = n && d->last > death.snapshot ? d->last : death.snapshot;
		d->list[n++] = death;
	}
	d->n = n;
}

int lake_deaths_read(struct lake_deaths *ret, struct lake *lake, struct duck_conn *conn, int64_t table_id, int64_t file_id,
		     int64_t rows, const struct lake_old_delete_file *files, size_t nfiles, struct duct_error *err)
{
	*ret = (struct lake_deaths){0};
	int rc = read_marks(ret, lake, table_id, file_id, err);
	for (size_t i = 0; i < nfiles && !rc; i++)
		rc = files[i].id >= 0 ? read_file(ret, conn, &files[i], err) : 0;
	if (rc)
		lake_deaths_done(ret);
	else if (ret->n <= LAKE_MOST_DEATHS)
		sort(ret, rows);
	return rc;
}

int lake_deaths_write(const struct lake_deaths *deaths, struct lake_store *store, const char *dir, const char *data_path,
		      int64_t rows, struct lake_new_delete_file *ret, struct duct_error *err)
{
	struct lake_positions positions = {0};
	AUTO_FREE int64_t *snapshots = duct_xcalloc(deaths->n + 1, sizeof *snapshots);
	for (size_t i = 0; i < deaths->n; i++) {
		lake_positions_add(&positions, deaths->list[i].position, rows);
		snapshots[i] = deaths->list[i].snapshot;
	}
	lake_positions_sort(&positions);
	*ret = (struct lake_new_delete_file){0};
	int rc = store ? lake_store_write_deletes(store, dir, data_path, &positions, snapshots, ret, err)
		       : lake_write_delete_file(dir, data_path, &positions, snapshots, &ret->path, &ret->size_bytes,
						&ret->footer_size, err);
	ret->count = (int64_t)deaths->n;
	ret->begin_snapshot = deaths->first;
	ret->partial_max = deaths->last;
	lake_positions_done(&positions);
	return rc;
}

void lake_deaths_done(struct lake_deaths *deaths)
{
	free(deaths->list);
	*deaths = (struct lake_deaths){0};
}

/* --- the catalog --- */

const char *lake_file_path(struct duct_arena *arena, const char *table_path, const char *path, const char *relative)
{
	AUTO_FREE char *whole = duct_xasprintf("%s%s", lake_bool(relative) ? table_path : "", path ? path : "");
	return duct_arena_strdup(arena, whole);
}

void lake_schedule_delete_file(struct lake_script *script, const struct lake *lake, const struct lake_old_delete_file *f)
{
	struct duct_buf *to = lake_script_step(script, LAKE_STEP_PLAIN, 0, NULL);
	size_t n = strlen(lake->data_path);
	bool relative = strncmp(f->path, lake->data_path, n) == 0;
	lake_sqlf(to, lake->db,
		  "INSERT INTO @ducklake_files_scheduled_for_deletion (data_file_id, path, path_is_relative, schedule_start) "
		  "VALUES (%lld, ",
		  (long long)f->id);
	duct_buf_sql_literal(to, relative ? f->path + n : f->path);
	duct_buf_printf(to, ", %s, %s)", lake_sql_bool(lake->db, relative),
			lake->db->sqlite ? "strftime('%Y-%m-%d %H:%M:%f+00', 'now')" : "now()");
}
