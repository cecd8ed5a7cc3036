/*
 * Folding: random histories over a few keys, folded into one net effect, must leave the same table as applying each
 * change by itself (DESIGN D2 rule 8). Keyed tables with key changes and unsent values, bags, truncates, several windows.
 */
#include "base/mem.h"
#include "destination/fold.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { KEYS = 3, UNSENT = -1 };

static uint64_t random_state;
static unsigned pick(unsigned n)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (unsigned)(random_state % n);
}

static struct lake_key_hash hash_of(int key)
{
	return (struct lake_key_hash){1, (uint64_t)key + 1};
}

static struct duct_relation *make_relation(void)
{
	struct duct_relation *rel = duct_relation_new();
	rel->ncolumns = 2;
	rel->columns = duct_arena_zalloc(&rel->arena, 2 * sizeof *rel->columns);
	rel->columns[0] = (struct duct_column){.name = "a", .type = {.kind = DUCT_INT32}};
	rel->columns[1] = (struct duct_column){.name = "b", .type = {.kind = DUCT_INT32}};
	return rel;
}

static uint32_t add_row(struct duct_batch *b, int a, int value)
{
	uint32_t row = duct_batch_add_row(b, DUCT_UPDATE, 0);
	int values[2] = {a, value};
	for (int i = 0; i < 2; i++) {
		if (values[i] == UNSENT)
			duct_vector_append_unsent(b, &b->columns[i]);
		else
			memcpy(duct_vector_append(b, &b->columns[i], 4), &values[i], 4);
	}
	return row;
}

/* The reference: a table of at most one row per key. */
struct table {
	bool there[KEYS];
	int a[KEYS], b[KEYS];
};

/* A column of the row that the slot shows, following versions. */
static int value_of(const struct fold *f, const struct fold_slot *s, int column, const struct table *base)
{
	const struct duct_batch *batch = s->batch;
	uint32_t row = s->row;
	for (int32_t v = s->behind;; v = f->versions[v].behind) {
		if (duct_vector_is_sent(&batch->columns[column], row)) {
			int value;
			memcpy(&value, duct_vector_cell(&batch->columns[column], row).data, 4);
			return value;
		}
		assert_true(v >= 0);
		const struct fold_version *version = &f->versions[v];
		if (!version->batch) {
			int key = (int)f->slots[version->slot].hash.low - 1;
			assert_true(f->slots[version->slot].base_present);
			return column ? base->b[key] : base->a[key];
		}
		batch = version->batch;
		row = version->row;
	}
}

/* The end of a window: its net effect on the table. */
static void apply(struct fold *f, struct table *base)
{
	struct table after = *base;
	if (f->truncated)
		memset(after.there, 0, sizeof after.there);
	for (size_t i = 0; i < f->nslots; i++) {
		struct fold_slot *s = &f->slots[i];
		int key = (int)s->hash.low - 1;
		assert_int_equal(s->base_present, after.there[key]); /* a wrong base would be drift */
		assert_int_equal(s->live, s->batch != NULL);
		after.there[key] = s->live;
		if (!s->live)
			continue;
		after.a[key] = value_of(f, s, 0, base);
		after.b[key] = value_of(f, s, 1, base);
	}
	*base = after;
	fold_reset(f);
}

static void random_change(struct fold *f, struct table *t, struct duct_batch *b)
{
	int key = (int)pick(KEYS), other = (int)pick(KEYS);
	int a = (int)pick(1000), value = pick(3) ? (int)pick(1000) : UNSENT;
	enum fold_outcome want, got;
	switch (pick(5)) {
	case 0:
		value = (int)pick(1000);
		want = t->there[key] ? FOLD_DUPLICATE : FOLD_OK;
		if (want != FOLD_OK)
			return; /* outcome of wrong input is tested apart: a base row is only found when resolving */
		got = fold_insert(f, hash_of(key), b, add_row(b, a, value));
		t->there[key] = true;
		t->a[key] = a;
		t->b[key] = value;
		break;
	case 1:
		if (!t->there[key])
			return;
		want = FOLD_OK;
		got = fold_delete(f, hash_of(key));
		t->there[key] = false;
		break;
	case 2: /* key change */
		if (!t->there[key] || t->there[other])
			return;
		want = FOLD_OK;
		got = fold_update(f, hash_of(key), hash_of(other), b, add_row(b, a, value));
		t->there[key] = false;
		t->there[other] = true;
		t->a[other] = a;
		t->b[other] = value == UNSENT ? t->b[key] : value;
		break;
	default:
		if (!t->there[key])
			return;
		want = FOLD_OK;
		got = fold_update(f, hash_of(key), hash_of(key), b, add_row(b, a, value));
		t->a[key] = a;
		if (value != UNSENT)
			t->b[key] = value;
	}
	assert_int_equal(got, want);
}

static void check_same(const struct table *got, const struct table *want)
{
	for (int k = 0; k < KEYS; k++) {
		assert_int_equal(got->there[k], want->there[k]);
		if (!want->there[k])
			continue;
		assert_int_equal(got->a[k], want->a[k]);
		assert_int_equal(got->b[k], want->b[k]);
	}
}

static void test_random_histories(void **state)
{
	(void)state;
	struct duct_relation *rel = make_relation();
	for (unsigned history = 1; history <= 20000; history++) {
		random_state = history * 0x9E3779B97F4A7C15u;
		struct table base = {0}, now;
		for (int k = 0; k < KEYS; k++) {
			base.there[k] = pick(2);
			base.a[k] = (int)pick(1000);
			base.b[k] = (int)pick(1000);
		}
		now = base;
		struct fold *f = fold_new(false);
		struct duct_batch *b = duct_batch_new(rel, 8);
		for (unsigned n = pick(20); n > 0; n--) {
			unsigned special = pick(30);
			if (special == 0) {
				fold_truncate(f);
				memset(now.there, 0, sizeof now.there);
			} else if (special == 1) {
				apply(f, &base);
			} else {
				random_change(f, &now, b);
			}
		}
		apply(f, &base);
		check_same(&base, &now);
		fold_free(f);
		duct_batch_unref(b);
	}
	duct_relation_unref(rel);
}

static void test_wrong_input(void **state)
{
	(void)state;
	struct duct_relation *rel = make_relation();
	struct duct_batch *b = duct_batch_new(rel, 8);
	uint32_t row = add_row(b, 1, 2);
	struct fold *f = fold_new(false);
	assert_int_equal(fold_insert(f, hash_of(0), b, row), FOLD_OK);
	assert_int_equal(fold_insert(f, hash_of(0), b, row), FOLD_DUPLICATE);
	assert_int_equal(fold_delete(f, hash_of(0)), FOLD_OK);
	assert_int_equal(fold_delete(f, hash_of(0)), FOLD_MISSING);
	assert_int_equal(fold_update(f, hash_of(0), hash_of(0), b, row), FOLD_MISSING);
	fold_truncate(f);
	assert_int_equal(fold_delete(f, hash_of(1)), FOLD_MISSING);
	fold_free(f);
	duct_batch_unref(b);
	duct_relation_unref(rel);
}

/* Bags: equal rows may repeat; counts per value must come out right. */
static void test_bag_histories(void **state)
{
	(void)state;
	struct duct_relation *rel = make_relation();
	for (unsigned history = 1; history <= 5000; history++) {
		random_state = history * 0xD1342543DE82EF95u;
		int base[KEYS], now[KEYS];
		for (int k = 0; k < KEYS; k++)
			now[k] = base[k] = (int)pick(3);
		struct fold *f = fold_new(true);
		struct duct_batch *b = duct_batch_new(rel, 8);
		for (unsigned n = pick(20); n > 0; n--) {
			int key = (int)pick(KEYS), other = (int)pick(KEYS);
			uint32_t row = add_row(b, key, key);
			switch (pick(4)) {
			case 0:
				assert_int_equal(fold_insert(f, hash_of(key), b, row), FOLD_OK);
				now[key]++;
				break;
			case 1:
				if (now[key]) {
					assert_int_equal(fold_delete(f, hash_of(key)), FOLD_OK);
					now[key]--;
				}
				break;
			case 2:
				if (now[other]) {
					assert_int_equal(fold_update(f, hash_of(other), hash_of(key), b, row), FOLD_OK);
					now[other]--;
					now[key]++;
				}
				break;
			default: break;
			}
		}
		uint32_t seen_nth[KEYS] = {0};
		int got[KEYS];
		memcpy(got, base, sizeof got);
		for (size_t i = 0; i < f->nslots; i++) {
			struct fold_slot *s = &f->slots[i];
			int key = (int)s->hash.low - 1;
			if (s->base_present)
				assert_int_equal(s->nth, seen_nth[key]++); /* each another one of the equal base rows */
			got[key] += (int)s->live - (int)s->base_present;
		}
		for (int k = 0; k < KEYS; k++) {
			assert_int_equal(got[k], now[k]);
			assert_true(seen_nth[k] <= (uint32_t)base[k]);
		}
		fold_free(f);
		duct_batch_unref(b);
	}
	duct_relation_unref(rel);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_histories),
		cmocka_unit_test(test_wrong_input),
		cmocka_unit_test(test_bag_histories),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
