/* The key index: content against a plain array, bytes independent of the order of insertion, freshness rules. */
#include "base/mem.h"
#include "lake/index.h"
#include "lake/index_runs.h"
#include "lake/key.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[256];

static int make_dir(void **state)
{
	(void)state;
	snprintf(dir, sizeof dir, "%s/ductstream-index-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
	(void)state;
	AUTO_FREE char *command = duct_xasprintf("rm -rf '%s'", dir);
	return system(command);
}

static struct lake_index_set *open_set(const char *sub, const char *commit, bool want_fresh)
{
	AUTO_FREE char *path = duct_xasprintf("%s/%s", dir, sub);
	struct lake_index_set *set;
	struct duct_error err;
	bool fresh;
	assert_int_equal(lake_index_set_open(&set, path, "lake", commit, &fresh, &err), 0);
	assert_int_equal(fresh, want_fresh);
	return set;
}

static struct lake_index *open_index(struct lake_index_set *set, int64_t id, const char *fingerprint, bool want_built)
{
	struct lake_index *index;
	struct duct_error err;
	bool built;
	assert_int_equal(lake_index_open(&index, set, id, fingerprint, &built, &err), 0);
	assert_int_equal(built, want_built);
	return index;
}

static uint64_t next_random(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

enum { KEYS = 3000 };
/* Hashes crowd at the ends of the range, so that probe sequences are long and wrap around. */
static struct lake_key_hash hash_of(unsigned key)
{
	uint64_t x = key * 0x9E3779B97F4A7C15u + 1;
	uint64_t high = key % 3 == 0 ? UINT64_MAX - key % 7 : key % 3 == 1 ? key % 5 : next_random(&x);
	return (struct lake_key_hash){high, key + 1};
}

static void test_random_operations(void **state)
{
	(void)state;
	struct lake_index_set *set = open_set("random", "c1", false);
	struct lake_index *index = open_index(set, 1, "key 1", false);
	static struct lake_place places[KEYS];
	static bool there[KEYS];
	uint64_t seed = 42;
	size_t count = 0;
	for (int step = 0; step < 60000; step++) {
		unsigned key = (unsigned)(next_random(&seed) % KEYS);
		struct lake_place place = {.row_id = (int64_t)key, .file_id = (uint32_t)step, .position = key};
		struct duct_error err;
		assert_int_equal(lake_index_reserve(index, 1, &err), 0);
		if (!there[key]) {
			lake_index_add(index, hash_of(key), place);
			count++;
		} else if (step % 3) {
			assert_true(lake_index_remove(index, hash_of(key), place.row_id));
			assert_false(lake_index_remove(index, hash_of(key), place.row_id));
			there[key] = false;
			count--;
			continue;
		} else {
			assert_true(lake_index_move(index, hash_of(key), place));
		}
		there[key] = true;
		places[key] = place;
	}
	assert_int_equal(lake_index_count(index), count);
	for (unsigned key = 0; key < KEYS; key++) {
		struct lake_place got;
		assert_int_equal(lake_index_get(index, hash_of(key), 0, &got), there[key]);
		if (there[key])
			assert_memory_equal(&got, &places[key], sizeof got);
	}
	lake_index_close(index);
	lake_index_set_close(set);
}

static void test_equal_hashes(void **state)
{
	(void)state;
	struct lake_index_set *set = open_set("bag", "c1", false);
	struct lake_index *index = open_index(set, 1, "bag", false);
	struct lake_key_hash h = {7, 7};
	for (int64_t row = 9; row >= 0; row--)
		lake_index_add(index, h, (struct lake_place){row, 1, (uint32_t)row});
	struct lake_place got;
	for (unsigned n = 0; n < 10; n++) {
		assert_true(lake_index_get(index, h, n, &got));
		assert_int_equal(got.row_id, n);
	}
	assert_false(lake_index_get(index, h, 10, &got));
	struct lake_place ends[] = {{-1 - LAKE_ROW_ID_MIN, UINT32_MAX, UINT32_MAX}, {LAKE_ROW_ID_MIN, 0, 0}, {-1, 3, 4}};
	struct lake_key_hash last = {UINT64_MAX, (1 << LAKE_HASH_LOW_BITS) - 1}, least = {0, 1};
	for (unsigned i = 0; i < DUCT_LEN(ends); i++) {
		lake_index_add(index, last, ends[i]);
		lake_index_add(index, least, ends[i]);
	}
	for (unsigned i = 0; i < DUCT_LEN(ends); i++) {
		assert_true(lake_index_get(index, i % 2 ? last : least, i, &got));
		assert_memory_equal(&got, &ends[(i + 1) % DUCT_LEN(ends)], sizeof got); /* by row id */
		assert_true(lake_index_find(index, last, ends[i].row_id, &got));
		assert_memory_equal(&got, &ends[i], sizeof got);
	}
	assert_true(lake_index_remove(index, h, 4));
	assert_true(lake_index_get(index, h, 4, &got));
	assert_int_equal(got.row_id, 5);
	lake_index_close(index);
	lake_index_set_close(set);
}

static char *file_bytes(const char *sub, size_t *size)
{
	AUTO_FREE char *path = duct_xasprintf("%s/%s/1.idx", dir, sub);
	int fd = open(path, O_RDONLY);
	struct stat st;
	assert_true(fd >= 0 && fstat(fd, &st) == 0);
	char *data = duct_xmalloc((size_t)st.st_size);
	assert_int_equal(read(fd, data, (size_t)st.st_size), st.st_size);
	close(fd);
	*size = (size_t)st.st_size;
	return data;
}

/* Built in one order, and in another with detours: equal by bytes after the header. */
static void test_bytes_do_not_depend_on_order(void **state)
{
	(void)state;
	const char *subs[] = {"one", "two"};
	char *bytes[2];
	size_t sizes[2];
	for (int i = 0; i < 2; i++) {
		struct lake_index_set *set = open_set(subs[i], "c1", false);
		struct lake_index *index = open_index(set, 1, "key 1", false);
		struct duct_error err;
		assert_int_equal(lake_index_reserve(index, 2 * KEYS, &err), 0);
		for (unsigned k = 0; k < KEYS; k++) {
			unsigned key = i ? KEYS - 1 - k : k;
			lake_index_add(index, hash_of(key), (struct lake_place){key, 1, key});
			if (i && k % 2) {
				assert_true(lake_index_remove(index, hash_of(key), key));
				lake_index_add(index, hash_of(key), (struct lake_place){key, 1, key});
			}
		}
		lake_index_close(index);
		lake_index_set_close(set);
		bytes[i] = file_bytes(subs[i], &sizes[i]);
	}
	assert_int_equal(sizes[0], sizes[1]);
	assert_memory_equal(bytes[0] + 4096, bytes[1] + 4096, sizes[0] - 4096);
	free(bytes[0]);
	free(bytes[1]);
}

static struct lake_place shifted(void *arg, size_t which, struct lake_place place)
{
	const int64_t *first = arg;
	place.row_id += first[which];
	return place;
}

enum { MANY = 150000 }; /* more than two runs hold, or two chunks of a growing file */

static void same_slots(const struct lake_index *one, const struct lake_index *two, size_t n)
{
	uint64_t at[2] = {0, 0};
	struct lake_key_hash a, b;
	struct lake_place p, q;
	assert_int_equal(lake_index_count(one), n);
	assert_int_equal(lake_index_count(two), n);
	while (lake_index_next(one, &at[0], &a, &p)) {
		assert_true(lake_index_next(two, &at[1], &b, &q));
		assert_memory_equal(&a, &b, sizeof a);
		assert_memory_equal(&p, &q, sizeof p);
		assert_int_equal(at[0], at[1]);
		n--;
	}
	assert_int_equal(n, 0);
}

/* Gathered by two, in any order, spilled and merged: the same bytes as added one by one. */
static void test_merged_runs(void **state)
{
	(void)state;
	struct lake_index_set *set = open_set("runs", "c1", false);
	struct lake_index *merged = open_index(set, 1, "key 1", false), *single = open_index(set, 2, "key 1", false);
	struct lake_index *grown = open_index(set, 3, "key 1", false);
	struct lake_index_runs *runs[2];
	struct duct_error err;
	int64_t first[2] = {1000000, 2000000};
	uint64_t seed = 7;
	bool equal;
	assert_int_equal(lake_index_reserve(single, MANY, &err), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(lake_index_runs_open(&runs[i], set, &err), 0);
	for (uint32_t i = 0; i < MANY; i++) {
		/* Some are at home in the last slots of the shares that are merged each by a thread, and go on in the next one. */
		uint64_t edge = (UINT64_MAX / 4 + 1) * (1 + i / 50 % 3) - 1 - i;
		struct lake_key_hash hash = {i % 50 ? next_random(&seed) : edge, i % 65536};
		struct lake_place place = {i, 1, i};
		assert_int_equal(lake_index_runs_add(runs[i % 3 == 0], hash, place, &err), 0);
		place.row_id += first[i % 3 == 0];
		lake_index_add(single, hash, place);
		assert_int_equal(lake_index_reserve(grown, 1, &err), 0);
		lake_index_add(grown, hash, place);
	}
	for (int i = 0; i < 2; i++)
		assert_int_equal(lake_index_runs_finish(runs[i], &err), 0);
	assert_int_equal(lake_index_merge(merged, runs, 2, shifted, first, &equal, &err), 0);
	assert_false(equal);
	assert_int_equal(lake_index_count(merged), MANY);
	same_slots(merged, single, MANY);
	same_slots(merged, grown, MANY);
	for (int i = 0; i < 2; i++)
		lake_index_runs_close(runs[i]);
	lake_index_close(grown);
	lake_index_close(merged);
	lake_index_close(single);
	lake_index_set_close(set);
}

/* Sequences that go on at the first slot: grown step by step, sized at once and merged give the same bytes. */
static void test_sequences_beyond_the_end(void **state)
{
	(void)state;
	enum { LATE = 40, KEYS_IN_ALL = 700, WAYS = 3 };
	struct lake_index_set *set = open_set("wrapped", "c1", false);
	struct lake_index *index[WAYS];
	struct lake_index_runs *runs;
	struct duct_error err;
	uint64_t seed = 11;
	int64_t first = 0;
	bool equal;
	for (int w = 0; w < WAYS; w++)
		index[w] = open_index(set, w, "key 1", false);
	assert_int_equal(lake_index_reserve(index[1], KEYS_IN_ALL, &err), 0);
	assert_int_equal(lake_index_runs_open(&runs, set, &err), 0);
	for (uint32_t i = 0; i < KEYS_IN_ALL; i++) {
		bool late = i % (KEYS_IN_ALL / LATE) == 0; /* at home in the last slot, whatever the capacity */
		struct lake_key_hash hash = {late ? UINT64_MAX - i : next_random(&seed), i + 1};
		struct lake_place place = {i, 1, i};
		assert_int_equal(lake_index_reserve(index[0], 1, &err), 0);
		lake_index_add(index[0], hash, place);
		lake_index_add(index[1], hash, place);
		assert_int_equal(lake_index_runs_add(runs, hash, place, &err), 0);
	}
	assert_int_equal(lake_index_runs_finish(runs, &err), 0);
	assert_int_equal(lake_index_merge(index[2], &runs, 1, shifted, &first, &equal, &err), 0);
	for (int w = 1; w < WAYS; w++)
		same_slots(index[0], index[w], KEYS_IN_ALL);
	lake_index_runs_close(runs);
	for (int w = 0; w < WAYS; w++) {
		lake_index_set_built(index[w]);
		lake_index_close(index[w]);
	}
	lake_index_set_end(set, "c2");
	lake_index_set_close(set);
	lake_index_set_close(open_set("wrapped", "c2", true)); /* all sums are right */
}

/* A sequence longer than what moves on at once: it grows all the same. */
static void test_growth_of_one_sequence(void **state)
{
	(void)state;
	struct lake_index_set *set = open_set("long", "c1", false);
	struct lake_index *index = open_index(set, 1, "key 1", false);
	struct lake_index_runs *runs;
	struct duct_error err;
	struct lake_key_hash hash;
	struct lake_place place;
	int64_t first = 0, count = 0;
	uint64_t at = 0;
	bool equal;
	assert_int_equal(lake_index_runs_open(&runs, set, &err), 0);
	for (uint32_t i = 0; i < MANY; i++)
		assert_int_equal(lake_index_runs_add(runs, (struct lake_key_hash){1 + i / 65536, i % 65536},
						     (struct lake_place){i, 1, i}, &err),
				 0);
	assert_int_equal(lake_index_runs_finish(runs, &err), 0);
	assert_int_equal(lake_index_merge(index, &runs, 1, shifted, &first, &equal, &err), 0);
	assert_int_equal(lake_index_reserve(index, MANY, &err), 0);
	for (; lake_index_next(index, &at, &hash, &place); count++)
		assert_int_equal(place.row_id, count);
	assert_int_equal(count, MANY);
	lake_index_runs_close(runs);
	lake_index_close(index);
	lake_index_set_close(set);
}

static void test_merge_sees_equal_hashes(void **state)
{
	(void)state;
	struct lake_index_set *set = open_set("equal", "c1", false);
	struct lake_index *index = open_index(set, 1, "key 1", false);
	struct lake_index_runs *runs[2];
	struct duct_error err;
	int64_t first[2] = {0, 100};
	bool equal = false;
	for (int i = 0; i < 2; i++) {
		assert_int_equal(lake_index_runs_open(&runs[i], set, &err), 0);
		assert_int_equal(lake_index_runs_add(runs[i], (struct lake_key_hash){5, 5}, (struct lake_place){1, 1, 1}, &err), 0);
		assert_int_equal(lake_index_runs_finish(runs[i], &err), 0);
	}
	assert_int_equal(lake_index_merge(index, runs, 2, shifted, first, &equal, &err), 0);
	assert_true(equal);
	uint64_t seed = lake_index_set_seed(set);
	assert_true(lake_index_set_doubt(set)); /* once another seed, then it is the same key */
	assert_int_not_equal(lake_index_set_seed(set), seed);
	assert_false(lake_index_set_doubt(set));
	lake_index_set_end(set, "c2");
	assert_true(lake_index_set_doubt(set));
	for (int i = 0; i < 2; i++)
		lake_index_runs_close(runs[i]);
	lake_index_close(index);
	lake_index_set_close(set);
}

static void test_freshness(void **state)
{
	(void)state;
	struct lake_index_set *set = open_set("fresh", "c1", false);
	struct lake_index *index = open_index(set, 1, "key 1", false);
	lake_index_set_begin(set);
	lake_index_add(index, (struct lake_key_hash){1, 1}, (struct lake_place){1, 1, 1});
	lake_index_set_built(index);
	lake_index_set_end(set, "c2");
	lake_index_close(index);
	lake_index_set_close(set);

	set = open_set("fresh", "c2", true); /* as of the commit: kept */
	index = open_index(set, 1, "key 1", true);
	assert_int_equal(lake_index_count(index), 1);
	lake_index_close(index);
	index = open_index(set, 1, "key 2", false); /* other key columns */
	assert_int_equal(lake_index_count(index), 0);
	lake_index_set_built(index);
	lake_index_set_begin(set); /* a crash between begin and end */
	lake_index_close(index);
	lake_index_set_close(set);

	set = open_set("fresh", "c2", false);
	lake_index_set_close(set);
	set = open_set("fresh", "c1", false); /* the lake is at another commit */
	lake_index_set_close(set);
}

/* A copied folder is read whole; what cannot be opened in it counts for nothing. */
static void test_a_copy_with_dead_links(void **state)
{
	(void)state;
	struct lake_index_set *set = open_set("copied", "c1", false);
	struct lake_index *index = open_index(set, 1, "key 1", false);
	lake_index_add(index, (struct lake_key_hash){1, 1}, (struct lake_place){1, 1, 1});
	lake_index_set_built(index);
	lake_index_close(index);
	lake_index_set_close(set);
	AUTO_FREE char *command = duct_xasprintf("cp -r '%s/copied' '%s/copy' && cd '%s/copy' && for i in 2 3 4 5 6 7 8 9; do "
						 "ln -s nowhere $i.idx; done",
						 dir, dir, dir);
	assert_int_equal(system(command), 0);
	set = open_set("copy", "c1", true);
	index = open_index(set, 1, "key 1", true);
	assert_int_equal(lake_index_count(index), 1);
	lake_index_close(index);
	lake_index_set_close(set);
}

static void test_one_owner(void **state)
{
	(void)state;
	struct lake_index_set *set = open_set("owner", "c1", false), *other;
	AUTO_FREE char *path = duct_xasprintf("%s/owner", dir);
	struct duct_error err;
	bool fresh;
	assert_int_equal(lake_index_set_open(&other, path, "lake", "c1", &fresh, &err), -DUCT_RETRY);
	lake_index_set_close(set);
}

/* A key keeps its hash when its type widens. */
static void test_hash_of_a_widened_key(void **state)
{
	static const struct duct_type narrow = {.kind = DUCT_INT32}, wide = {.kind = DUCT_INT64};
	static const int32_t small[] = {0, 1, -1, INT32_MIN, INT32_MAX};
	static const int keys[] = {0, 1};
	uint8_t valid[] = {0x0f}; /* the last one is NULL */
	int64_t large[5];
	(void)state;
	for (int i = 0; i < 5; i++)
		large[i] = small[i];
	struct duct_vector columns[] = {
		{.type = &narrow, .width = 4, .rows = 5, .data = (char *)(uintptr_t)small, .valid = valid, .has_null = true},
		{.type = &wide, .width = 8, .rows = 5, .data = (char *)large, .valid = valid, .has_null = true}};
	struct lake_hasher first = {.seed = 42, .keys = keys, .nkeys = 1}, second = {.seed = 42, .keys = keys + 1, .nkeys = 1};
	for (uint32_t i = 0; i < 5; i++) {
		struct lake_key_hash a = lake_hash_row(&first, columns, i), b = lake_hash_row(&second, columns, i);
		struct lake_key_hash before = lake_hash_row(&second, columns, (i + 1) % 5);
		assert_true(a.high == b.high && a.low == b.low);
		assert_false(b.high == before.high && b.low == before.low);
	}
	duct_buf_done(&first.scratch);
	duct_buf_done(&second.scratch);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_operations),
		cmocka_unit_test(test_equal_hashes),
		cmocka_unit_test(test_bytes_do_not_depend_on_order),
		cmocka_unit_test(test_merged_runs),
		cmocka_unit_test(test_sequences_beyond_the_end),
		cmocka_unit_test(test_growth_of_one_sequence),
		cmocka_unit_test(test_merge_sees_equal_hashes),
		cmocka_unit_test(test_freshness),
		cmocka_unit_test(test_a_copy_with_dead_links),
		cmocka_unit_test(test_one_owner),
		cmocka_unit_test(test_hash_of_a_widened_key),
	};
	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
