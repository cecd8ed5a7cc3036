/* Marks as sets, and those that a writer knows: see marks.h. */
#include "lake/marks.h"

#include "base/mem.h"
#include "base/order.h"
#include "lake/lake.h"
#include "lake/txn_plan.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
	PIECE_WORDS = 16, /* of bits: memory comes in pieces, as marks of a large file may be few */
	PIECE_ROWS = PIECE_WORDS * 64,
	TOLD_BITS = 16, /* the catalog tells this many rows of a file at once, without their upper bits */
};

struct piece {
	uint64_t words[PIECE_WORDS];
};

struct lake_marked_file {
	int64_t id;	       /* first: they are searched by it */
	struct piece **pieces; /* NULL: no mark in it */
	size_t npieces, cap;
	size_t n;
};

/* --- sets --- */

/* Where the file is, or would be. */
static size_t place_of(const struct lake_mark_set *set, int64_t file_id)
{
	return duct_lower_bound_i64(set->files, set->n, sizeof *set->files, file_id);
}

static struct lake_marked_file *find_file(const struct lake_mark_set *set, int64_t file_id)
{
	size_t at = place_of(set, file_id);
	return at < set->n && set->files[at].id == file_id ? &set->files[at] : NULL;
}

static struct lake_marked_file *file_of(struct lake_mark_set *set, int64_t file_id)
{
	size_t at = place_of(set, file_id);
	if (at < set->n && set->files[at].id == file_id)
		return &set->files[at];
	set->files = duct_grow(set->files, &set->cap, set->n + 1, sizeof *set->files);
	memmove(set->files + at + 1, set->files + at, (set->n - at) * sizeof *set->files);
	set->n++;
	set->files[at] = (struct lake_marked_file){.id = file_id};
	return &set->files[at];
}

static struct piece *piece_of(struct lake_marked_file *file, size_t at)
{
	if (at >= file->npieces) {
		file->pieces = duct_grow(file->pieces, &file->cap, at + 1, sizeof *file->pieces);
		memset(file->pieces + file->npieces, 0, (at + 1 - file->npieces) * sizeof *file->pieces);
		file->npieces = at + 1;
	}
	if (!file->pieces[at])
		file->pieces[at] = duct_xcalloc(1, sizeof *file->pieces[at]);
	return file->pieces[at];
}

static bool add_mark(struct lake_marked_file *file, int64_t position)
{
	if (position < 0 || position > UINT32_MAX) /* the key index cannot name others either */
		return false;
	uint64_t *word = &piece_of(file, (size_t)position / PIECE_ROWS)->words[position % PIECE_ROWS / 64];
	uint64_t bit = UINT64_C(1) << (position % 64);
	if (*word & bit)
		return false;
	*word |= bit;
	file->n++;
	return true;
}

bool lake_mark_set_add(struct lake_mark_set *set, int64_t file_id, const int64_t *positions, size_t n, int64_t *ret_position)
{
	struct lake_marked_file *file = file_of(set, file_id);
	for (size_t i = 0; i < n; i++)
		if (!add_mark(file, positions[i])) {
			*ret_position = positions[i];
			return false;
		}
	return true;
}

bool lake_mark_set_has_file(const struct lake_mark_set *set, int64_t file_id)
{
	const struct lake_marked_file *file = find_file(set, file_id);
	return file && file->n;
}

int64_t *lake_mark_set_list(const struct lake_mark_set *set, int64_t file_id, size_t *ret_n)
{
	const struct lake_marked_file *file = find_file(set, file_id);
	int64_t *list = duct_xmalloc(((file ? file->n : 0) + 1) * sizeof *list);
	size_t n = 0;
	for (size_t i = 0; file && i < file->npieces; i++)
		for (size_t w = 0; file->pieces[i] && w < PIECE_WORDS; w++)
			for (uint64_t left = file->pieces[i]->words[w]; left; left &= left - 1)
				list[n++] = (int64_t)(i * PIECE_ROWS + w * 64) + __builtin_ctzll(left);
	*ret_n = n;
	return list;
}

static void free_pieces(struct lake_marked_file *file)
{
	for (size_t i = 0; i < file->npieces; i++)
		free(file->pieces[i]);
	free(file->pieces);
}

void lake_mark_set_drop_file(struct lake_mark_set *set, int64_t file_id)
{
	struct lake_marked_file *file = find_file(set, file_id);
	if (!file)
		return;
	free_pieces(file);
	size_t at = (size_t)(file - set->files);
	memmove(file, file + 1, (--set->n - at) * sizeof *file);
}

void lake_mark_set_done(struct lake_mark_set *set)
{
	for (size_t i = 0; i < set->n; i++)
		free_pieces(&set->files[i]);
	free(set->files);
	*set = (struct lake_mark_set){0};
}

/* --- from the catalog --- */

int lake_mark_set_take(struct lake_mark_set *set, const char *const *values, struct duct_error *err)
{
	int64_t file_id = lake_int(values[0], -1), upper = lake_int(values[1], -1);
	const char *at = values[2];
	if (!at) /* rows without a number hide nothing from anybody */
		return 0;
	for (;; at++) {
		char *end;
		int64_t lower = strtoll(at, &end, 10), position = -1;
		bool is_row = end != at && (*end == ',' || !*end) && upper >= 0 && upper <= UINT32_MAX >> TOLD_BITS && lower >= 0 &&
			lower < 1 << TOLD_BITS;
		if (is_row)
			position = (upper << TOLD_BITS) + lower;
		if (!lake_mark_set_add(set, file_id, &position, 1, &position))
			return duct_fail(err, DUCT_FATAL,
					 "the catalog marks %s deleted in data file %" PRId64 ": piece %" PRId64 ", row %.20s",
					 is_row ? "a row twice" : "what is no row", file_id, upper, at);
		at = end;
		if (!*at)
			return 0;
	}
}

static int take_marks(void *arg, int set, const char *const *values, struct duct_error *err)
{
	(void)set;
	return lake_mark_set_take(arg, values, err);
}

int lake_read_marks(struct lake *lake, int64_t table_id, struct lake_mark_set *set, struct duct_error *err)
{
	const struct lake_table *t = lake_model_table(lake->model, table_id);
	lake_mark_set_done(set);
	if (!t || !t->has_delete_table)
		return 0;
	long long id = table_id, head = lake->model->head;
	/* Gathered by the server: a row for each mark would be held as a whole by libpq. */
	int rc = lake_queryf(lake->db, take_marks, set, err,
			     "SELECT m.file_id, m.row_id >> %d, %s FROM @ducklake_inlined_delete_%lld m "
			     "JOIN @ducklake_data_file d ON d.data_file_id = m.file_id AND d.table_id = %lld "
			     "AND (d.end_snapshot IS NULL OR d.end_snapshot > %lld) "
			     "WHERE m.begin_snapshot <= %lld GROUP BY 1, 2",
			     TOLD_BITS,
			     lake->db->sqlite ? "group_concat(m.row_id & 65535)" : "string_agg((m.row_id & 65535)::text, ',')", id,
			     id, head, head);
	if (rc)
		lake_mark_set_done(set);
	return rc;
}

/* --- those a writer knows --- */

static struct lake_known_marks *find_known(const struct lake *lake, int64_t table_id)
{
	for (size_t i = 0; i < lake->nknown_marks; i++)
		if (lake->known_marks[i].table_id == table_id)
			return &lake->known_marks[i];
	return NULL;
}

/* NULL: error. */
static struct lake_mark_set *know(struct lake *lake, int64_t table_id, struct duct_error *err)
{
	struct lake_known_marks *known = find_known(lake, table_id);
	if (!known) {
		struct lake_mark_set set = {0};
		if (lake_read_marks(lake, table_id, &set, err)) {
			duct_wrap(err, "read the marks of deleted rows");
			return NULL;
		}
		lake->known_marks =
			duct_grow(lake->known_marks, &lake->known_marks_cap, lake->nknown_marks + 1, sizeof *lake->known_marks);
		known = &lake->known_marks[lake->nknown_marks++];
		*known = (struct lake_known_marks){table_id, set};
	}
	return &known->set;
}

static int claim_file(struct lake_mark_set *set, const struct lake_txn_table *t, const struct lake_marks *marks,
		      struct duct_error *err)
{
	struct lake_marked_file *file = file_of(set, marks->file_id);
	size_t n = 0;
	int64_t position;
	for (struct lake_positions_walk w = {&marks->positions, 0, 0}; lake_positions_next(&w, &position); n++)
		if (!add_mark(file, position))
			return duct_fail(err, DUCT_FATAL,
					 "commit: row %" PRId64 " of data file %" PRId64
					 " of table \"%s\" is marked deleted already",
					 position, marks->file_id, t->name);
	if (n != marks->positions.n)
		return duct_fail(err, DUCT_FATAL,
				 "commit: %zu rows of data file %" PRId64 " of table \"%s\" were to be marked deleted twice",
				 marks->positions.n - n, marks->file_id, t->name);
	return 0;
}

static int claim(struct lake_txn *txn, const struct lake_txn_table *t, struct duct_error *err)
{
	struct lake_mark_set *set = know(txn->lake, t->id, err);
	if (!set)
		return -(int)err->class;
	for (size_t i = 0; i < t->nmarks; i++)
		if (claim_file(set, t, &t->marks[i], err))
			return -(int)err->class;
	for (size_t i = 0; i < txn->ndeletes; i++)
		if (txn->deletes[i].table == t && txn->deletes[i].on_new_file < 0 && !txn->deletes[i].folds &&
		    lake_mark_set_has_file(set, txn->deletes[i].file_id))
			return duct_fail(err, DUCT_FATAL,
					 "commit: a delete file was made for data file %" PRId64
					 " of table \"%s\", which has marks in the catalog",
					 txn->deletes[i].file_id, t->name);
	return 0;
}

static bool has_delete_file(const struct lake_txn *txn, const struct lake_txn_table *t)
{
	for (size_t i = 0; i < txn->ndeletes; i++)
		if (txn->deletes[i].table == t && txn->deletes[i].on_new_file < 0 && !txn->deletes[i].folds)
			return true;
	return false;
}

int lake_txn_claim_marks(struct lake_txn *txn, struct duct_error *err)
{
	for (size_t i = 0; i < txn->ntables; i++) {
		const struct lake_txn_table *t = txn->tables[i];
		const struct lake_table *known = t->is_new ? NULL : lake_model_table(txn->lake->model, t->id);
		if (!t->nmarks && !(known && known->has_delete_table && has_delete_file(txn, t)))
			continue;
		if (claim(txn, t, err))
			return -(int)err->class;
	}
	return 0;
}

void lake_txn_settle_marks(struct lake_txn *txn, bool committed)
{
	struct lake *lake = txn->lake;
	for (size_t i = 0; i < txn->ntables; i++) {
		const struct lake_txn_table *t = txn->tables[i];
		struct lake_known_marks *known = find_known(lake, t->id);
		if (!known)
			continue;
		if (t->truncated || (t->nmarks && !committed)) {
			lake_forget_marks(lake, t->id);
			continue;
		}
		for (size_t k = 0; committed && k < t->ended.n; k++)
			lake_mark_set_drop_file(&known->set, t->ended.ids[k]);
	}
}

bool lake_may_have_marks(const struct lake *lake, int64_t table_id, int64_t file_id)
{
	const struct lake_known_marks *known = find_known(lake, table_id);
	return !known || lake_mark_set_has_file(&known->set, file_id);
}

void lake_forget_marks(struct lake *lake, int64_t table_id)
{
	struct lake_known_marks *known = find_known(lake, table_id);
	if (!known)
		return;
	lake_mark_set_done(&known->set);
	*known = lake->known_marks[--lake->nknown_marks];
}

void lake_forget_all_marks(struct lake *lake)
{
	while (lake->nknown_marks)
		lake_mark_set_done(&lake->known_marks[--lake->nknown_marks].set);
	free(lake->known_marks);
	lake->known_marks = NULL;
	lake->known_marks_cap = 0;
}
