/* Frozen changes come back as they were: relations, every kind of value, old rows, unsent values; and outboxes over restarts. */
#include "base/mem.h"
#include "flow/outbox.h"
#include "record/freeze.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static struct duct_error err;

static struct duct_relation *relation(uint64_t version)
{
	static const struct duct_type element = {.kind = DUCT_INT32, .name = "element"};
	struct duct_relation *rel = duct_relation_new();
	static const int16_t dropped[] = {4, 9};
	struct duct_live_column *live = duct_arena_zalloc(&rel->arena, 2 * sizeof *live);
	static const struct duct_type text = {.kind = DUCT_VARCHAR};
	rel->oid = 16400;
	rel->version = version;
	rel->schema = "public";
	rel->name = "t";
	rel->identity = DUCT_IDENTITY_KEY;
	rel->may_lack = true;
	rel->ncolumns = 3;
	rel->columns = duct_arena_zalloc(&rel->arena, 3 * sizeof *rel->columns);
	rel->columns[0] = (struct duct_column){
		.name = "id", .type = {.kind = DUCT_INT64}, .attnum = 1, .key = true, .not_null = true, .source_type = "bigint"};
	rel->columns[1] =
		(struct duct_column){.name = "body", .type = text, .attnum = 2, .source_type = "text", .missing_value = "x'y"};
	rel->columns[2] = (struct duct_column){.name = "list",
					       .type = {.kind = DUCT_LIST, .nchildren = 1, .children = &element},
					       .attnum = 3,
					       .source_type = "integer[]"};
	rel->nkeys = 1;
	rel->keys = duct_arena_zalloc(&rel->arena, sizeof *rel->keys);
	live[0] = (struct duct_live_column){1, false, NULL, NULL};
	live[1] = (struct duct_live_column){2, true, &rel->columns[1].type, "now"};
	rel->live = live;
	rel->nlive = 2;
	rel->dropped = dropped;
	rel->ndropped = 2;
	return rel;
}

static void put(struct duct_batch *b, struct duct_vector *v, const void *data, uint32_t n)
{
	memcpy(duct_vector_append(b, v, n), data, n);
}

/* One transaction: insert, update with an unsent value and an old key, delete. */
static struct duct_changes *changes(struct duct_relation *rel, uint64_t seq, uint64_t lsn)
{
	struct duct_batch *b = duct_batch_new(rel, 0);
	const uint32_t list[] = {1};
	int64_t id = (int64_t)seq, old_id = 99;
	duct_batch_add_row(b, DUCT_INSERT, seq);
	put(b, &b->columns[0], &id, 8);
	put(b, &b->columns[1], "hello", 5);
	put(b, &b->columns[2], list, 4);
	duct_batch_add_row(b, DUCT_UPDATE, seq + 1);
	put(b, &b->columns[0], &id, 8);
	duct_vector_append_unsent(b, &b->columns[1]);
	duct_vector_append_null(b, &b->columns[2]);
	duct_batch_add_old_row(b);
	put(b, &b->old[0], &old_id, 8);
	duct_vector_append_unsent(b, &b->old[1]);
	duct_vector_append_unsent(b, &b->old[2]);
	duct_batch_add_row(b, DUCT_DELETE, seq + 2);
	for (int i = 0; i < 3; i++)
		duct_vector_append_unsent(b, &b->columns[i]);
	duct_batch_add_old_row(b);
	put(b, &b->old[0], &id, 8);
	duct_vector_append_unsent(b, &b->old[1]);
	duct_vector_append_unsent(b, &b->old[2]);
	duct_batch_seal(b);
	struct duct_changes *c = duct_changes_new();
	duct_changes_add(c, b);
	if (lsn) {
		duct_changes_add_commit(c, &(struct duct_commit){lsn, 1234567, 77, seq + 2});
		c->ends_commit = true;
	} else {
		c->open_xid = 78;
		c->open_lsn = 5000;
	}
	return c;
}

static void assert_vector(const struct duct_vector *a, const struct duct_vector *b, uint32_t rows)
{
	for (uint32_t i = 0; i < rows; i++) {
		assert_int_equal(duct_vector_is_sent(a, i), duct_vector_is_sent(b, i));
		struct duct_cell x = duct_vector_cell(a, i), y = duct_vector_cell(b, i);
		assert_int_equal(x.data == NULL, y.data == NULL);
		assert_int_equal(x.len, y.len);
		if (x.len)
			assert_memory_equal(x.data, y.data, x.len);
	}
}

static void assert_changes(const struct duct_changes *a, const struct duct_changes *b)
{
	assert_int_equal(a->upto.lsn, b->upto.lsn);
	assert_int_equal(a->ends_commit, b->ends_commit);
	assert_int_equal(a->open_xid, b->open_xid);
	assert_int_equal(a->open_lsn, b->open_lsn);
	assert_int_equal(a->rows, b->rows);
	assert_int_equal(a->ncommits, b->ncommits);
	assert_int_equal(a->nbatches, b->nbatches);
	for (size_t i = 0; i < a->ncommits; i++)
		assert_int_equal(a->commits[i].last_seq, b->commits[i].last_seq);
	for (size_t i = 0; i < a->nbatches; i++) {
		const struct duct_batch *x = a->batches[i], *y = b->batches[i];
		assert_true(duct_relation_equal(x->relation, y->relation));
		assert_int_equal(x->relation->nlive, y->relation->nlive);
		assert_string_equal(y->relation->live[1].missing_value, "now");
		assert_int_equal(y->relation->dropped[1], 9);
		assert_int_equal(x->rows, y->rows);
		assert_memory_equal(x->op, y->op, x->rows);
		assert_memory_equal(x->seq, y->seq, x->rows * sizeof *x->seq);
		assert_memory_equal(x->old_row, y->old_row, x->rows * sizeof *x->old_row);
		for (int c = 0; c < x->relation->ncolumns; c++) {
			assert_vector(&x->columns[c], &y->columns[c], x->rows);
			assert_vector(&x->old[c], &y->old[c], x->old_rows);
		}
	}
}

static void there_and_back(void **state)
{
	struct duct_relation *rel = relation(3);
	struct duct_changes *c = changes(rel, 10, 4000), *back;
	AUTO_BUF struct duct_buf r = {0}, bytes = {0};
	struct duct_thaw thaw = {0};
	(void)state;
	duct_freeze_relation(&r, rel);
	duct_freeze_changes(&bytes, c);
	assert_int_equal(duct_thaw_changes(&thaw, bytes.data, bytes.len, &back, &err), -DUCT_DATA); /* its relation is not known */
	assert_int_equal(duct_thaw_relation(&thaw, r.data, r.len, &err), 0);
	assert_int_equal(duct_thaw_changes(&thaw, bytes.data, bytes.len, &back, &err), 0);
	assert_changes(c, back);
	duct_changes_free(back);
	for (size_t cut = 0; cut < bytes.len; cut++)
		assert_int_equal(duct_thaw_changes(&thaw, bytes.data, cut, &back, &err), -DUCT_DATA);
	for (size_t cut = 0; cut < r.len; cut++)
		assert_int_equal(duct_thaw_relation(&thaw, r.data, cut, &err), -DUCT_DATA);
	duct_thaw_done(&thaw);
	duct_changes_free(c);
	duct_relation_unref(rel);
}

static int next(struct flow_outbox *o, const struct duct_changes *want)
{
	struct duct_changes *got = NULL;
	int rc = flow_outbox_next(o, &got, 0, &err);
	if (rc == 1)
		assert_changes(want, got);
	duct_changes_free(got);
	return rc;
}

static void outbox(void **state)
{
	char dir[] = "/tmp/duct-outbox-XXXXXX";
	struct duct_relation *rel = relation(1);
	struct duct_changes *a = changes(rel, 1, 100), *b = changes(rel, 4, 200), *part = changes(rel, 7, 0),
			    *c = changes(rel, 10, 300);
	struct flow_outbox *o;
	(void)state;
	assert_non_null(mkdtemp(dir));
	assert_false(flow_outbox_exists(dir));
	assert_int_equal(flow_outbox_open(&o, dir, "source", 50, 0, &err), 0);
	assert_int_equal(flow_outbox_end(o).lsn, 50);
	assert_int_equal(flow_outbox_append(o, a, &err), 1);
	assert_int_equal(next(o, a), 0); /* not synced yet */
	assert_int_equal(flow_outbox_sync(o, &err), 0);
	assert_int_equal(flow_outbox_end(o).lsn, 100);
	assert_int_equal(flow_outbox_append(o, b, &err), 1);
	assert_int_equal(flow_outbox_append(o, part, &err), 1);
	assert_int_equal(flow_outbox_sync(o, &err), 0);
	assert_int_equal(flow_outbox_end(o).lsn, 200);
	assert_int_equal(next(o, a), 1);
	assert_int_equal(next(o, b), 1);
	assert_int_equal(next(o, part), 1);
	assert_int_equal(next(o, part), 0);
	flow_outbox_close(o);
	/* Again: the part is forgotten, as it comes again. */
	assert_true(flow_outbox_exists(dir));
	assert_int_equal(flow_outbox_open(&o, dir, "source", 0, 0, &err), 0);
	assert_int_equal(flow_outbox_end(o).lsn, 200);
	assert_int_equal(flow_outbox_append(o, c, &err), 1);
	assert_int_equal(flow_outbox_sync(o, &err), 0);
	assert_int_equal(flow_outbox_seek(o, 100, &err), 0);
	assert_int_equal(next(o, b), 1);
	assert_int_equal(next(o, c), 1);
	assert_int_equal(next(o, c), 0);
	assert_int_equal(flow_outbox_seek(o, 10, &err), -DUCT_FATAL); /* before its beginning */
	assert_int_equal(flow_outbox_seek(o, 250, &err), 0);
	assert_int_equal(next(o, c), 1);
	flow_outbox_trim(o, 300);
	flow_outbox_close(o);
	flow_outbox_drop(dir);
	assert_false(flow_outbox_exists(dir));
	duct_changes_free(a);
	duct_changes_free(b);
	duct_changes_free(part);
	duct_changes_free(c);
	duct_relation_unref(rel);
}

static void spoil(const char *path, off_t at)
{
	int fd = open(path, O_WRONLY);
	assert_int_equal(pwrite(fd, "\xff", 1, at), 1);
	close(fd);
}

/* A tail that was not synced, and a byte that changed. */
static void damage(void **state)
{
	char dir[] = "/tmp/duct-outbox-XXXXXX", path[64];
	struct duct_relation *rel = relation(1);
	struct duct_changes *a = changes(rel, 1, 100), *b = changes(rel, 4, 200);
	struct flow_outbox *o;
	struct stat st;
	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/000000000001.out", dir);
	assert_int_equal(flow_outbox_open(&o, dir, "source", 0, 0, &err), 0);
	assert_int_equal(flow_outbox_append(o, a, &err), 1);
	assert_int_equal(flow_outbox_append(o, b, &err), 1);
	assert_int_equal(flow_outbox_sync(o, &err), 0);
	flow_outbox_close(o);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(truncate(path, st.st_size - 3), 0);
	assert_int_equal(flow_outbox_open(&o, dir, "source", 0, 0, &err), 0);
	assert_int_equal(flow_outbox_end(o).lsn, 100);
	flow_outbox_close(o);
	spoil(path, 1100);
	assert_int_equal(flow_outbox_open(&o, dir, "source", 0, 0, &err), -DUCT_DATA);
	assert_non_null(strstr(err.message, "damaged"));
	flow_outbox_drop(dir);
	duct_changes_free(a);
	duct_changes_free(b);
	duct_relation_unref(rel);
}

/* It says whose changes it keeps, as long as there is any. */
static void identity(void **state)
{
	char dir[] = "/tmp/duct-outbox-XXXXXX", path[64];
	struct duct_relation *rel = relation(1);
	struct duct_changes *a = changes(rel, 1, 100);
	struct flow_outbox *o;
	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/000000000001.out", dir);
	assert_int_equal(flow_outbox_open(&o, dir, "one", 50, 0, &err), 0);
	assert_int_equal(flow_outbox_append(o, a, &err), 1);
	assert_int_equal(flow_outbox_sync(o, &err), 0);
	flow_outbox_close(o);
	assert_int_equal(flow_outbox_open(&o, dir, "two", 0, 0, &err), 0);
	assert_string_equal(flow_outbox_identity(o), "one");
	assert_int_equal(flow_outbox_first(o), 50);
	flow_outbox_close(o);
	spoil(path, 30); /* in it */
	assert_int_equal(flow_outbox_open(&o, dir, "one", 0, 0, &err), -DUCT_DATA);
	assert_non_null(strstr(err.message, "damaged at byte 0"));
	spoil(path, 8);
	assert_int_equal(flow_outbox_open(&o, dir, "one", 0, 0, &err), -DUCT_DATA);
	assert_non_null(strstr(err.message, "another version"));
	flow_outbox_drop(dir);
	duct_changes_free(a);
	duct_relation_unref(rel);
}

/* The note that takes the place of an outbox. */
static void given_up(void **state)
{
	char dir[] = "/tmp/duct-outbox-XXXXXX";
	AUTO_FREE char *reason = NULL;
	struct flow_outbox *o;
	int64_t at_us;
	(void)state;
	assert_non_null(mkdtemp(dir));
	assert_false(flow_outbox_given_up(dir, &reason, &at_us));
	assert_int_equal(flow_outbox_open(&o, dir, "one", 50, 0, &err), 0);
	flow_outbox_close(o);
	assert_int_equal(flow_outbox_give_up(dir, "its disk is on fire", 1234567, &err), 0);
	assert_false(flow_outbox_exists(dir));
	assert_true(flow_outbox_given_up(dir, &reason, &at_us));
	assert_string_equal(reason, "its disk is on fire");
	assert_int_equal(at_us, 1234567);
	flow_outbox_drop(dir);
	assert_int_equal(access(dir, F_OK), -1);
}

static void limit(void **state)
{
	char dir[] = "/tmp/duct-outbox-XXXXXX";
	struct duct_relation *rel = relation(1);
	struct duct_changes *a = changes(rel, 1, 100);
	struct flow_outbox *o;
	int taken = 1;
	(void)state;
	assert_non_null(mkdtemp(dir));
	assert_int_equal(flow_outbox_open(&o, dir, "source", 0, 4096, &err), 0);
	for (int i = 0; i < 100 && taken == 1; i++) {
		taken = flow_outbox_append(o, a, &err);
		assert_int_equal(flow_outbox_sync(o, &err), 0);
	}
	assert_int_equal(taken, 0);
	flow_outbox_close(o);
	flow_outbox_drop(dir);
	duct_changes_free(a);
	duct_relation_unref(rel);
}

/* A transaction that was begun below the limit goes in whole: what is never whole would never leave, and nothing before it could. */
static void limit_inside_a_transaction(void **state)
{
	char dir[] = "/tmp/duct-outbox-XXXXXX";
	struct duct_relation *rel = relation(1);
	struct duct_changes *part = changes(rel, 1, 0), *end = changes(rel, 1, 100), *later = changes(rel, 1, 200);
	struct flow_outbox *o;
	(void)state;
	assert_non_null(mkdtemp(dir));
	assert_int_equal(flow_outbox_open(&o, dir, "source", 0, 4096, &err), 0);
	for (int i = 0; i < 50; i++) {
		assert_int_equal(flow_outbox_append(o, part, &err), 1);
		assert_int_equal(flow_outbox_sync(o, &err), 0);
	}
	assert_true(flow_outbox_bytes(o) > 8192);
	assert_int_equal(flow_outbox_append(o, end, &err), 1);
	assert_int_equal(flow_outbox_sync(o, &err), 0);
	assert_int_equal(flow_outbox_append(o, later, &err), 0);
	for (int i = 0; i < 50; i++)
		assert_int_equal(next(o, part), 1);
	assert_int_equal(next(o, end), 1);
	assert_int_equal(next(o, end), 0);
	assert_false(flow_outbox_has_room(o, 0));
	flow_outbox_trim(o, 100);
	assert_true(flow_outbox_has_room(o, 100));
	flow_outbox_close(o);
	flow_outbox_drop(dir);
	duct_changes_free(part);
	duct_changes_free(end);
	duct_changes_free(later);
	duct_relation_unref(rel);
}

/* A segment that is missing in the middle, or stands in another's place. */
static void gaps(void **state)
{
	char dir[] = "/tmp/duct-outbox-XXXXXX", path[3][64], aside[64];
	struct duct_relation *rel = relation(1);
	struct flow_outbox *o;
	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(aside, sizeof aside, "%s/aside", dir);
	for (int i = 0; i < 3; i++) {
		struct duct_changes *c = changes(rel, 1, 100 * ((uint64_t)i + 1));
		snprintf(path[i], sizeof path[i], "%s/00000000000%d.out", dir, i + 1);
		assert_int_equal(flow_outbox_open(&o, dir, "source", 0, 0, &err), 0);
		assert_int_equal(flow_outbox_append(o, c, &err), 1);
		assert_int_equal(flow_outbox_sync(o, &err), 0);
		flow_outbox_close(o);
		duct_changes_free(c);
	}
	assert_int_equal(rename(path[1], aside), 0);
	assert_int_equal(flow_outbox_open(&o, dir, "source", 0, 0, &err), -DUCT_DATA);
	assert_non_null(strstr(err.message, "segment 3 is damaged at byte 16 (it does not begin where the one before it ends)"));
	assert_int_equal(rename(path[0], path[1]), 0);
	assert_int_equal(rename(aside, path[0]), 0);
	assert_int_equal(flow_outbox_open(&o, dir, "source", 0, 0, &err), -DUCT_DATA);
	assert_non_null(strstr(err.message, "segment 2 is damaged at byte 16"));
	flow_outbox_drop(dir);
	duct_relation_unref(rel);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(limit_inside_a_transaction),
		cmocka_unit_test(gaps),
		cmocka_unit_test(there_and_back),
		cmocka_unit_test(outbox),
		cmocka_unit_test(damage),
		cmocka_unit_test(identity),
		cmocka_unit_test(given_up),
		cmocka_unit_test(limit),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
