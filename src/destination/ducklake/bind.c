/*
 * Binding: which lake column each column of a relation version is. A version names its columns in the order of their
 * numbers (attnum), but a stream does not say the numbers: the source adds those that its catalog has under the same name
 * now, which may be later than the version. Here that is held against the columns that the lake has, which are earlier.
 * Numbers are never used twice and rise from column to column; that settles what names alone do not.
 */
#include "destination/ducklake/ducklake.h"

#include <string.h>

struct binder {
	const struct mirror *m;
	const struct duct_relation *rel;
	int *named;	   /* mirror column of the same name, -1: none */
	int16_t *attnums;  /* 0: not known (yet) */
	int *columns;	   /* mirror column, -1: new */
	bool *used;	   /* by mirror column */
	int16_t known_max; /* greatest number of a mirror column */
};

static bool is_live(const struct duct_relation *rel, int16_t attnum)
{
	for (int i = 0; i < rel->nlive; i++)
		if (rel->live[i].attnum == attnum)
			return true;
	return false;
}

/* Takes numbers from the source's catalog and from columns of the same name, in that order or the other. Strict: false
 * when they do not rise; else those that do not are left out. */
static bool take_numbers(struct binder *b, bool catalog_first, bool strict)
{
	int16_t last = 0;
	for (int i = 0; i < b->rel->ncolumns; i++) {
		int16_t catalog = b->rel->columns[i].attnum;
		int16_t named = b->named[i] >= 0 ? b->m->columns[b->named[i]].attnum : 0;
		int16_t first = catalog_first ? catalog : named, second = catalog_first ? named : catalog;
		b->attnums[i] = first > 0 ? first : second > 0 ? second : 0;
		if (b->attnums[i] && b->attnums[i] <= last) {
			if (strict)
				return false;
			b->attnums[i] = 0;
		}
		last = b->attnums[i] ? b->attnums[i] : last;
	}
	return true;
}

static void use(struct binder *b, int column, int mirror_column)
{
	b->columns[column] = mirror_column;
	b->used[mirror_column] = true;
}

static void match_numbers(struct binder *b)
{
	for (int i = 0; i < b->rel->ncolumns; i++) {
		b->columns[i] = -1;
		for (size_t j = 0; j < b->m->ncolumns && b->attnums[i] && b->columns[i] < 0; j++)
			if (b->m->columns[j].attnum == b->attnums[i])
				use(b, i, (int)j);
		int named = b->named[i];
		if (b->columns[i] < 0 && named >= 0 && b->m->columns[named].attnum <= 0 && !b->used[named])
			use(b, i, named);
	}
}

/* The unused mirror column with the least number between `above` and `below` that the source still has. */
static int next_live(const struct binder *b, int16_t above, int16_t below)
{
	int best = -1;
	for (size_t j = 0; j < b->m->ncolumns; j++) {
		int16_t n = b->m->columns[j].attnum;
		if (!b->used[j] && n > above && n < below && is_live(b->rel, n) && (best < 0 || n < b->m->columns[best].attnum))
			best = (int)j;
	}
	return best;
}

static int count_between(const struct binder *b, int16_t above, int16_t below, bool live)
{
	int count = 0;
	for (size_t j = 0; j < b->m->ncolumns; j++) {
		int16_t n = b->m->columns[j].attnum;
		count += !b->used[j] && n > above && n < below && is_live(b->rel, n) == live;
	}
	return count;
}

static int mirror_place(const struct binder *b, int16_t attnum)
{
	for (size_t j = 0; j < b->m->ncolumns; j++)
		if (!b->used[j] && b->m->columns[j].attnum == attnum)
			return (int)j;
	return -1;
}

/* As many columns as there are numbers between their neighbours: nothing else is possible. */
static void match_full_gap(struct binder *b, int from, int to, int16_t above)
{
	for (int i = from; i < to; i++) {
		b->attnums[i] = ++above;
		int j = mirror_place(b, above);
		if (j >= 0)
			use(b, i, j);
	}
}

/* Columns [from, to) have names that neither side knows: they were renamed more than once since. Mirror columns in the
 * gap that the source still has must be among them, in order. */
static void match_gap(struct binder *b, const struct lake_column *const *types, int from, int to, int16_t above, int16_t below)
{
	if (below - above - 1 == to - from) {
		match_full_gap(b, from, to, above);
		return;
	}
	int live = count_between(b, above, below, true), dead = count_between(b, above, below, false);
	bool by_type = dead && live < to - from;
	for (int i = from; i < to; i++) {
		int j = next_live(b, above, below);
		if (j < 0)
			return;
		if (by_type && types[j] && !duct_type_equal(&types[j]->type, &b->rel->columns[i].type))
			continue; /* one that was dropped later */
		above = b->attnums[i] = b->m->columns[j].attnum;
		use(b, i, j);
	}
}

static void match_gaps(struct binder *b, const struct lake_column *const *types)
{
	int n = b->rel->ncolumns;
	int16_t above = 0;
	for (int i = 0, to; i < n; i = to) {
		to = i + 1;
		if (b->attnums[i])
			above = b->attnums[i];
		if (b->attnums[i] || b->columns[i] >= 0)
			continue;
		while (to < n && !b->attnums[to] && b->columns[to] < 0)
			to++;
		int next = to;
		while (next < n && !b->attnums[next])
			next++;
		match_gap(b, types, i, to, above, next < n ? b->attnums[next] : INT16_MAX);
	}
}

/* The least number above `above` that the table has or had, 0: none. */
static int16_t number_after(const struct duct_relation *rel, int16_t above)
{
	int16_t found = 0;
	for (int i = 0; i < rel->nlive; i++)
		if (rel->live[i].attnum > above && (!found || rel->live[i].attnum < found))
			found = rel->live[i].attnum;
	for (int i = 0; i < rel->ndropped; i++)
		if (rel->dropped[i] > above && (!found || rel->dropped[i] < found))
			found = rel->dropped[i];
	return found;
}

/* New columns under a passing name: most likely they are the first that came after what the lake knows. */
static void number_new(struct binder *b)
{
	int16_t above = b->known_max;
	for (int i = 0; i < b->rel->ncolumns; i++) {
		if (!b->attnums[i] && b->columns[i] < 0) {
			int next = i + 1;
			while (next < b->rel->ncolumns && !b->attnums[next])
				next++;
			int16_t number = number_after(b->rel, above);
			if (number && (next == b->rel->ncolumns || number < b->attnums[next]))
				b->attnums[i] = number;
		}
		above = b->attnums[i] > above ? b->attnums[i] : above;
	}
}

void mirror_bind(const struct mirror *m, const struct duct_relation *rel, const struct lake_column *const *types, int *ret_columns,
		 int16_t *ret_attnums)
{
	AUTO_FREE int *named = duct_xcalloc((size_t)rel->ncolumns + 1, sizeof *named);
	AUTO_FREE bool *used = duct_xcalloc(m->ncolumns + 1, sizeof *used);
	struct binder b = {m, rel, named, ret_attnums, ret_columns, used, 0};
	for (size_t j = 0; j < m->ncolumns; j++)
		b.known_max = m->columns[j].attnum > b.known_max ? m->columns[j].attnum : b.known_max;
	for (int i = 0; i < rel->ncolumns; i++) {
		named[i] = -1;
		for (size_t j = 0; j < m->ncolumns; j++)
			if (strcmp(m->columns[j].name, rel->columns[i].name) == 0)
				named[i] = (int)j;
	}
	if (!take_numbers(&b, true, true) && !take_numbers(&b, false, true))
		(void)take_numbers(&b, true, false);
	match_numbers(&b);
	match_gaps(&b, types);
	number_new(&b);
}
