/* Binding of columns: see bind.h. */
#include "destination/bind.h"

#include "base/mem.h"

#include <string.h>

struct binder {
	const struct bind_column *have;
	size_t nhave;
	const struct duct_relation *rel;
	int *named;	   /* column of the destination of the same name, -1: none */
	int16_t *attnums;  /* 0: not known (yet) */
	int *columns;	   /* of the destination, -1: new */
	bool *used;	   /* by column of the destination */
	int16_t known_max; /* greatest number of a column of the destination */
};

/* NULL: the source has it no longer. */
static const struct duct_live_column *live_column(const struct duct_relation *rel, int16_t attnum)
{
	for (int i = 0; i < rel->nlive; i++)
		if (rel->live[i].attnum == attnum)
			return &rel->live[i];
	return NULL;
}

/* Takes numbers from the source's catalog and from columns of the same name, in that order or the other. Strict: false
 * when they do not rise; else those that do not are left out. */
static bool take_numbers(struct binder *b, bool catalog_first, bool strict)
{
	int16_t last = 0;
	for (int i = 0; i < b->rel->ncolumns; i++) {
		int16_t catalog = b->rel->columns[i].attnum;
		int16_t named = b->named[i] >= 0 ? b->have[b->named[i]].attnum : 0;
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
		for (size_t j = 0; j < b->nhave && b->attnums[i] && b->columns[i] < 0; j++)
			if (b->have[j].attnum == b->attnums[i])
				use(b, i, (int)j);
		int named = b->named[i];
		if (b->columns[i] < 0 && named >= 0 && b->have[named].attnum <= 0 && !b->used[named])
			use(b, i, named);
	}
}

/* The unused column of the destination with the least number between `above` and `below` that the source still has. */
static int next_live(const struct binder *b, int16_t above, int16_t below)
{
	int best = -1;
	for (size_t j = 0; j < b->nhave; j++) {
		int16_t n = b->have[j].attnum;
		if (!b->used[j] && n > above && n < below && live_column(b->rel, n) && (best < 0 || n < b->have[best].attnum))
			best = (int)j;
	}
	return best;
}

static int count_between(const struct binder *b, int16_t above, int16_t below, bool live)
{
	int count = 0;
	for (size_t j = 0; j < b->nhave; j++) {
		int16_t n = b->have[j].attnum;
		count += !b->used[j] && n > above && n < below && (live_column(b->rel, n) != NULL) == live;
	}
	return count;
}

static int place_of(const struct binder *b, int16_t attnum)
{
	for (size_t j = 0; j < b->nhave; j++)
		if (!b->used[j] && b->have[j].attnum == attnum)
			return (int)j;
	return -1;
}

/* As many columns as there are numbers between their neighbours: nothing else is possible. */
static void match_full_gap(struct binder *b, int from, int to, int16_t above)
{
	for (int i = from; i < to; i++) {
		b->attnums[i] = ++above;
		int j = place_of(b, above);
		if (j >= 0)
			use(b, i, j);
	}
}

/* Columns [from, to) have names that neither side knows: they were renamed more than once since. Columns of the destination in
 * the gap that the source still has must be among them, in order. */
static void match_gap(struct binder *b, int from, int to, int16_t above, int16_t below)
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
		if (by_type && b->have[j].type && !duct_type_equal(b->have[j].type, &b->rel->columns[i].type))
			continue; /* one that was dropped later */
		above = b->attnums[i] = b->have[j].attnum;
		use(b, i, j);
	}
}

/* One of the source whose number and name say nothing. */
static bool is_nameless(const struct binder *b, int i)
{
	return !b->attnums[i] && b->columns[i] < 0 && b->rel->columns[i].attnum >= 0;
}

static void match_gaps(struct binder *b)
{
	int n = b->rel->ncolumns;
	int16_t above = 0;
	for (int i = 0, to; i < n; i = to) {
		to = i + 1;
		if (b->attnums[i])
			above = b->attnums[i];
		if (!is_nameless(b, i))
			continue;
		while (to < n && is_nameless(b, to))
			to++;
		int next = to;
		while (next < n && !b->attnums[next])
			next++;
		match_gap(b, i, to, above, next < n ? b->attnums[next] : INT16_MAX);
	}
}

/* Whether a column that came after what the destination knows may be this one. */
static bool may_be_new(const struct binder *b, const struct duct_column *c)
{
	const struct duct_relation *rel = b->rel;
	for (int i = 0; i < rel->nlive; i++)
		if (rel->live[i].attnum > b->known_max && (!rel->live[i].type || duct_type_equal(rel->live[i].type, &c->type)))
			return true;
	for (int i = 0; i < rel->ndropped; i++)
		if (rel->dropped[i] > b->known_max)
			return true;
	return false;
}

/* The first unused column of the destination above `above` that the source has dropped since, and that has the type; -1: none. */
static int next_dead(const struct binder *b, int16_t above, const struct duct_type *type)
{
	int best = -1;
	for (size_t j = 0; j < b->nhave; j++) {
		const struct bind_column *c = &b->have[j];
		if (!b->used[j] && c->attnum > above && c->type && duct_type_equal(c->type, type) &&
		    !live_column(b->rel, c->attnum) && (best < 0 || c->attnum < b->have[best].attnum))
			best = (int)j;
	}
	return best;
}

/* Behind all that has a number: a column that can be no new one was renamed before it was dropped. */
static void match_dead(struct binder *b)
{
	int from = b->rel->ncolumns;
	while (from > 0 && !b->attnums[from - 1])
		from--;
	int16_t above = from ? b->attnums[from - 1] : 0;
	for (int i = from; i < b->rel->ncolumns; i++) {
		const struct duct_column *c = &b->rel->columns[i];
		int j = is_nameless(b, i) && !may_be_new(b, c) ? next_dead(b, above, &c->type) : -1;
		if (j < 0)
			continue;
		above = b->attnums[i] = b->have[j].attnum;
		use(b, i, j);
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
		if (is_nameless(b, i)) {
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

void destination_bind(const struct bind_column *have, size_t n, const struct duct_relation *rel, int *ret_columns,
		      int16_t *ret_attnums)
{
	AUTO_FREE int *named = duct_xcalloc((size_t)rel->ncolumns + 1, sizeof *named);
	AUTO_FREE bool *used = duct_xcalloc(n + 1, sizeof *used);
	struct binder b = {have, n, rel, named, ret_attnums, ret_columns, used, 0};
	for (size_t j = 0; j < n; j++)
		b.known_max = have[j].attnum > b.known_max ? have[j].attnum : b.known_max;
	for (int i = 0; i < rel->ncolumns; i++) {
		named[i] = -1;
		for (size_t j = 0; j < n; j++)
			if (strcmp(have[j].name, rel->columns[i].name) == 0)
				named[i] = (int)j;
	}
	if (!take_numbers(&b, true, true) && !take_numbers(&b, false, true))
		(void)take_numbers(&b, true, false);
	match_numbers(&b);
	match_gaps(&b);
	match_dead(&b);
	number_new(&b);
}

bool destination_old_rows_value(const struct duct_relation *rel, const struct duct_column *c, int16_t attnum,
				const char **ret_value)
{
	const struct duct_live_column *live = live_column(rel, attnum);
	bool same = c->attnum == attnum, known = !same && live && live->type && duct_type_equal(live->type, &c->type);
	const char *value = same ? c->missing_value : known ? live->missing_value : NULL;
	/* Rows that are found by all of their values are not found by a wrong one: a column that is gone again has left none here. */
	bool other = !same && !known && (!live || live->type), whole = !rel->nkeys && rel->identity == DUCT_IDENTITY_FULL;
	bool lost = whole && other && rel->nlive && c->attnum >= 0;
	bool settable = !lost && !(live && live->computed) && !(value && duct_kind_is_nested(c->type.kind));
	*ret_value = settable ? value : NULL;
	return settable;
}
