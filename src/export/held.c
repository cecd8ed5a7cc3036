/*
 * What the lake has of the team's days already. A file is one day's when the catalog's bounds prove it: what a partition is called is no proof, as clients
 * of other time zones call other rows so, and files of an older partitioning have no name. Rows elsewhere (strays) are found one by one: in files that the
 * bounds do not rule out, and in the catalog itself.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/order.h"
#include "duck/s3.h"
#include "export/internal.h"
#include "lake/search.h"
#include "record/format.h"

static int64_t day_of(int64_t us)
{
	return us / EXPORT_DAY_US - (us % EXPORT_DAY_US < 0);
}

static int64_t as_int(struct duct_cell cell)
{
	int64_t v = 0;
	int32_t half;
	memcpy(&v, cell.data, cell.len < sizeof v ? cell.len : sizeof v);
	memcpy(&half, cell.data, sizeof half);
	return cell.len == sizeof half ? half : v;
}

/* --- the columns that say whose and of when --- */

enum { TEAM, TIME, COLUMNS };

static int find_columns(const struct export_place *place, const struct lake_table *table, const struct lake_column *ret[COLUMNS],
			struct duct_error *err)
{
	const char *const names[] = {"team_id", export_shapes[place->request->what].time_column};
	for (int i = 0; i < COLUMNS; i++) {
		ret[i] = lake_find_column(table->columns, table->ncolumns, names[i]);
		enum duct_kind kind = ret[i] && ret[i]->supported ? ret[i]->type.kind : 0;
		if (ret[i] && kind != (i == TIME ? DUCT_TIMESTAMPTZ : DUCT_INT64) && (i == TIME || kind != DUCT_INT32))
			return duct_fail(
				err, DUCT_CONFIG,
				"table %s.%s: column \"%s\" is %s, %s is expected: whose and of when its rows are cannot be told",
				table->schema, table->name, names[i], ret[i]->type_name, i == TIME ? "timestamptz" : "int64");
	}
	return 0;
}

/* --- files --- */

/* False: not known. */
static bool parse_bounds(const struct lake_column *column, const struct lake_file_bounds *b, int64_t *ret_min, int64_t *ret_max)
{
	AUTO_BUF struct duct_buf min = {0}, max = {0};
	struct duct_error ignored;
	if (!b->min || !b->max || duct_parse_value(&min, &column->type, b->min, strlen(b->min), &ignored) ||
	    duct_parse_value(&max, &column->type, b->max, strlen(b->max), &ignored) || min.len < sizeof(int32_t) ||
	    max.len != min.len)
		return false;
	*ret_min = as_int((struct duct_cell){min.data, (uint32_t)min.len});
	*ret_max = as_int((struct duct_cell){max.data, (uint32_t)max.len});
	return true;
}

static void judge(struct export_held *to, int64_t team, const struct lake_column *const *columns,
		  const struct lake_file_bounds *bounds)
{
	int64_t least = 0, most = 0;
	to->how = EXPORT_STRAYS;
	to->first_day = INT64_MIN;
	to->last_day = INT64_MAX;
	bool known = parse_bounds(columns[TEAM], &bounds[TEAM], &least, &most);
	if (known && (team < least || team > most))
		to->how = EXPORT_OTHERS;
	bool ours = known && least == team && most == team && bounds[TEAM].nulls == 0;
	if (!parse_bounds(columns[TIME], &bounds[TIME], &least, &most))
		return;
	to->first_day = day_of(least);
	to->last_day = day_of(most);
	if (ours && to->first_day == to->last_day && bounds[TIME].nulls == 0)
		to->how = EXPORT_ONE_DAY;
}

int export_judge_files(struct export_place *place, const struct lake_file *files, size_t n, struct duct_arena *arena,
		       struct export_held **ret, struct duct_error *err)
{
	const struct lake_table *table = export_find_table(place);
	const struct lake_column *columns[COLUMNS];
	struct lake_file_bounds *bounds;
	struct export_held *held = *ret = duct_arena_zalloc(arena, (n + 1) * sizeof *held);
	if (find_columns(place, table, columns, err))
		return -(int)err->class;
	for (size_t i = 0; i < n; i++)
		held[i] = (struct export_held){&files[i], EXPORT_OTHERS, INT64_MIN, INT64_MAX};
	if (!columns[TEAM] || !columns[TIME]) /* no row that is there can be of a day */
		return 0;
	const int64_t ids[] = {columns[TEAM]->id, columns[TIME]->id};
	if (lake_list_bounds(place->lake, table->id, ids, COLUMNS, files, n, arena, &bounds, err))
		return -(int)err->class;
	for (size_t i = 0; i < n; i++)
		judge(&held[i], place->team.team_id, columns, bounds + i * COLUMNS);
	return 0;
}

/* --- strays --- */

struct search {
	struct export_place *place;
	struct lake_search rows;
	const struct lake_column *columns[COLUMNS];
	bool (*wants)(void *arg, int64_t day);
	void *arg;
	struct duck_db *db;
	bool allowed;
};

static bool is_wanted(void *arg, const struct duct_batch *batch, uint32_t row)
{
	struct search *s = arg;
	struct duct_cell team = duct_vector_cell(&batch->columns[TEAM], row), time = duct_vector_cell(&batch->columns[TIME], row);
	return team.data && time.data && as_int(team) == s->place->team.team_id && s->wants(s->arg, day_of(as_int(time)));
}

static int allow_s3(void *arg, const char *path, struct duct_error *err)
{
	struct search *s = arg;
	if (s->allowed || !s3_is_url(path))
		return 0;
	s->allowed = true;
	return duck_allow_s3(s->rows.conn, "lake_s3", NULL, &s->place->s3_options, s->place->credentials, NULL, err);
}

static bool may_have(const struct export_held *held, int64_t first_day, int64_t last_day)
{
	return held->how == EXPORT_STRAYS && held->last_day >= first_day && held->first_day <= last_day;
}

static int search_rows(struct search *s, const struct export_held *held, size_t n, int64_t first_day, int64_t last_day,
		       struct duct_error *err)
{
	struct lake_search *rows = &s->rows;
	int rc = 0;
	s->db = duck_open();
	rows->conn = duck_connect(s->db);
	rows->points = lake_points_new();
	for (size_t i = 0; i < n && !rc; i++)
		if (may_have(&held[i], first_day, last_day))
			rc = lake_search_file(rows, held[i].file, err);
	rc = rc ? rc : lake_search_inlined(rows, err);
	lake_search_done(rows);
	lake_points_free(rows->points);
	duck_disconnect(rows->conn);
	duck_close(s->db);
	return rc ? duct_wrap(err, "rows of the day elsewhere in the table") : 0;
}

/* In the files that have strays of these days, and in the catalog. */
static int search_days(struct search *s, const struct export_held *held, size_t n, int64_t first_day, int64_t last_day,
		       struct duct_error *err)
{
	const struct lake_table *table = export_find_table(s->place);
	struct lake_search *rows = &s->rows;
	rows->lake = s->place->lake;
	rows->ctx = s->place->ctx;
	rows->table_id = table->id;
	rows->columns = s->columns;
	rows->ncolumns = COLUMNS;
	rows->wants = is_wanted;
	rows->allow = allow_s3;
	rows->arg = s;
	rows->store = s->place->store;
	int rc = find_columns(s->place, table, s->columns, err);
	if (rc || !s->columns[TEAM] || !s->columns[TIME])
		return rc;
	bool any = lake_search_any_inlined(rows->lake, table->id);
	for (size_t i = 0; i < n && !any; i++)
		any = may_have(&held[i], first_day, last_day);
	return any ? search_rows(s, held, n, first_day, last_day, err) : 0;
}

/* --- which days have any --- */

/* They are few, however many rows they have. */
static bool note_day(void *arg, int64_t day)
{
	struct export_day_list *list = arg;
	size_t at = duct_lower_bound_i64(list->days, list->n, sizeof *list->days, day);
	if (at < list->n && list->days[at] == day)
		return false;
	list->days = duct_grow(list->days, &list->cap, list->n + 1, sizeof *list->days);
	memmove(list->days + at + 1, list->days + at, (list->n - at) * sizeof *list->days);
	list->days[at] = day;
	list->n++;
	return false;
}

int export_stray_days(struct export_place *place, const struct export_held *held, size_t n, struct export_day_list *ret,
		      struct duct_error *err)
{
	struct search s = {.place = place, .wants = note_day, .arg = ret};
	return search_days(&s, held, n, INT64_MIN, INT64_MAX, err);
}

bool export_day_listed(const struct export_day_list *list, int64_t day)
{
	return list->n && bsearch(&day, list->days, list->n, sizeof day, duct_compare_i64) != NULL;
}

/* --- their end --- */

struct wanted_days {
	const struct export_day *days;
	size_t n;
};

static bool is_one_of(void *arg, int64_t day)
{
	const struct wanted_days *w = arg;
	for (size_t i = 0; i < w->n; i++)
		if (w->days[i].day == day)
			return true;
	return false;
}

static const char *path_of(const struct wanted_days *w, int64_t day)
{
	for (size_t i = 0; i < w->n; i++)
		if (w->days[i].day == day)
			return w->days[i].path;
	return NULL;
}

int export_end_days(struct export_place *place, struct lake_txn *txn, struct lake_txn_table *t, const struct export_day *days,
		    size_t ndays, const struct export_held *held, size_t n, size_t *ret_ended, struct duct_error *err)
{
	struct wanted_days wanted = {days, ndays};
	struct search s = {.place = place, .wants = is_one_of, .arg = &wanted, .rows = {.txn = txn, .t = t}};
	int64_t first = INT64_MAX, last = INT64_MIN;
	for (size_t i = 0; i < ndays; i++) {
		first = days[i].day < first ? days[i].day : first;
		last = days[i].day > last ? days[i].day : last;
	}
	for (size_t i = 0; i < n; i++) {
		const char *path = path_of(&wanted, held[i].first_day);
		if (held[i].how != EXPORT_ONE_DAY || !is_one_of(&wanted, held[i].first_day) ||
		    (path && strcmp(path, held[i].file->path) == 0))
			continue;
		lake_txn_end_file(txn, t, held[i].file->id);
		++*ret_ended;
	}
	int rc = search_days(&s, held, n, first, last, err);
	*ret_ended += s.rows.ended;
	return rc;
}
