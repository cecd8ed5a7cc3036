/* Tuples of a stream to rows of a batch: see decode_tuple.h. */
#include "pg/decode_tuple.h"

#include <string.h>

#include "pg/fast.h"

#include "record/format.h"

enum { MAX_KEY_BYTES = 80 };

/* A delete leaves out all new columns, and all old ones but the key's, a truncate all; a row that has them comes after what was
 * left out. */
static void begin_row(struct duct_batch *b, enum duct_op op, uint64_t seq)
{
	bool lacks = op == DUCT_DELETE || op == DUCT_TRUNCATE;
	if (b->lacks && !lacks)
		duct_batch_fill_unset(b);
	b->lacks |= lacks;
	(void)duct_batch_add_row(b, op, seq);
}

void pg_append_truncate(struct duct_batch *b, uint64_t seq)
{
	begin_row(b, DUCT_TRUNCATE, seq);
}

static void put_key_value(struct duct_buf *to, const struct pg_mapping *m, const struct pg_value *v)
{
	AUTO_BUF struct duct_buf bytes = {0};
	struct duct_error ignored;
	size_t from = to->len;
	if (v->kind == 'n')
		duct_buf_puts(to, "NULL");
	else if (v->kind == 't')
		duct_buf_append(to, v->data, v->len);
	else if (v->kind == 'b' && pg_decode(m, 'b', v->data, v->len, &bytes, &ignored) == 0)
		duct_format_value(to, &m->type, (struct duct_cell){bytes.data ? bytes.data : "", (uint32_t)bytes.len});
	else
		duct_buf_puts(to, "?");
	if (to->len - from <= MAX_KEY_BYTES)
		return;
	to->len = from + MAX_KEY_BYTES;
	while (to->len > from && ((unsigned char)to->data[to->len] & 0xc0) == 0x80)
		to->len--;
	duct_buf_puts(to, "...");
}

int pg_wrap_key(const struct pg_relation *relation, const struct pg_value *values, struct duct_error *err)
{
	const struct duct_relation *rel = relation->rel;
	AUTO_BUF struct duct_buf names = {0};
	AUTO_BUF struct duct_buf key = {0};
	if (!rel->nkeys)
		return -(int)err->class;
	for (int i = 0; i < rel->nkeys; i++) {
		duct_buf_printf(&names, "%s%s", i ? ", " : "", rel->columns[rel->keys[i]].name);
		if (i)
			duct_buf_puts(&key, ", ");
		put_key_value(&key, &relation->mappings[rel->keys[i]], &values[rel->keys[i]]);
	}
	return duct_wrap(err, "row (%s)=(%s)", names.data, key.data ? key.data : "");
}

static bool is_sent(const struct pg_value *v)
{
	return v->kind == 't' || v->kind == 'b';
}

struct job {
	struct duct_batch *batch;
	const struct pg_relation *relation;
	const struct pgout_change *change;
	struct duct_buf *scratch;
};

static int append_value(struct job *j, struct duct_vector *v, int column, const struct pg_value *value, struct duct_error *err)
{
	if (value->kind == 'n') {
		duct_vector_append_null(j->batch, v);
		return 0;
	}
	if (value->kind == 'u') {
		duct_vector_append_unsent(j->batch, v);
		return 0;
	}
	int rc = pg_decode_into(&j->relation->mappings[column], value->kind, value->data, value->len, j->batch, v, j->scratch, err);
	if (rc < 0)
		return duct_wrap(err, "column \"%s\"", j->relation->rel->columns[column].name);
	return 0;
}

/* What the old tuple knows of a column: under K only key columns were sent, an 'n' elsewhere says nothing. */
static const struct pg_value *old_value(const struct job *j, int column)
{
	static const struct pg_value unsent = {.kind = 'u'};
	const struct pgout_change *c = j->change;
	if (!c->old_kind || (c->old_kind == 'K' && !j->relation->rel->columns[column].key))
		return &unsent;
	return &c->old.values[column];
}

static int append_new(struct job *j, struct duct_error *err)
{
	struct duct_batch *b = j->batch;
	for (int i = 0; i < b->relation->ncolumns; i++) {
		const struct pg_value *v = &j->change->new.values[i];
		if (v->kind == 'b' && pg_append_fast(&j->relation->mappings[i], v->data, v->len, b, &b->columns[i]))
			continue;
		/* Unchanged, so the old tuple's value is the value: TOAST under FULL, and toasted key columns. */
		if (v->kind == 'u' && is_sent(old_value(j, i)))
			v = old_value(j, i);
		int rc = append_value(j, &b->columns[i], i, v, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int append_old(struct job *j, struct duct_error *err)
{
	struct duct_batch *b = j->batch;
	const struct duct_relation *rel = b->relation;
	bool keys = j->change->old_kind == 'K';
	if (b->lacks && !keys)
		duct_batch_fill_unset(b);
	b->lacks |= keys;
	(void)duct_batch_add_old_row(b);
	for (int i = 0, n = keys ? rel->nkeys : rel->ncolumns; i < n; i++) {
		int column = keys ? rel->keys[i] : i, rc = append_value(j, &b->old[column], column, old_value(j, column), err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* Compared as lake values, and only when the bytes differ: 1 changed, 0 same. */
static int value_changed(struct job *j, int column, const struct pg_value *old, const struct pg_value *new, struct duct_error *err)
{
	AUTO_BUF struct duct_buf a = {0};
	AUTO_BUF struct duct_buf b = {0};
	const struct pg_mapping *m = &j->relation->mappings[column];
	if (new->kind == 'u' || old->kind == 'u')
		return 0;
	if (!is_sent(old) || !is_sent(new))
		return old->kind != new->kind;
	if (old->kind == new->kind && old->len == new->len &&memcmp(old->data, new->data, new->len) == 0)
		return 0;
	int rc = pg_decode(m, old->kind, old->data, old->len, &a, err);
	if (rc == 0)
		rc = pg_decode(m, new->kind, new->data, new->len, &b, err);
	if (rc < 0)
		return duct_wrap(err, "column \"%s\"", j->relation->rel->columns[column].name);
	return a.len != b.len || (a.len && memcmp(a.data, b.data, a.len) != 0);
}

static int key_changed(struct job *j, struct duct_error *err)
{
	const struct duct_relation *rel = j->relation->rel;
	for (int i = 0; i < rel->nkeys; i++) {
		int column = rel->keys[i];
		int rc = value_changed(j, column, old_value(j, column), &j->change->new.values[column], err);
		if (rc)
			return rc;
	}
	return 0;
}

static int append_update(struct job *j, struct duct_error *err)
{
	const struct duct_relation *rel = j->relation->rel;
	int rc = append_new(j, err);
	if (rc < 0 || !j->change->old_kind)
		return rc;
	rc = rel->nkeys ? key_changed(j, err) : 1;
	return rc > 0 ? append_old(j, err) : rc;
}

static int check_shape(const struct job *j, char kind, struct duct_error *err)
{
	const struct duct_relation *rel = j->relation->rel;
	const struct pgout_change *c = j->change;
	int n = rel->ncolumns;
	if ((kind != 'D' && c->new.nvalues != n) || (c->old_kind && c->old.nvalues != n))
		return duct_fail(err, DUCT_FATAL, "replication stream: a row of \"%s.%s\" has %d columns, its relation %d",
				 rel->schema, rel->name, kind != 'D' && c->new.nvalues != n ? c->new.nvalues : c->old.nvalues, n);
	if (kind == 'I')
		for (int i = 0; i < n; i++)
			if (c->new.values[i].kind == 'u')
				return duct_fail(err, DUCT_FATAL,
						 "replication stream: an inserted row of \"%s.%s\" lacks column \"%s\"",
						 rel->schema, rel->name, rel->columns[i].name);
	if (kind != 'I' && !rel->nkeys && rel->identity != DUCT_IDENTITY_FULL)
		return duct_fail(err, DUCT_CONFIG,
				 "table \"%s.%s\": a changed or deleted row arrived, but the table has no replica "
				 "identity to find it by (a partitioned table needs the one of its partitions)",
				 rel->schema, rel->name);
	if (kind == 'U' && !rel->nkeys && rel->identity == DUCT_IDENTITY_FULL && c->old_kind != 'O')
		return duct_fail(err, DUCT_FATAL, "replication stream: an update of \"%s.%s\" lacks the old row", rel->schema,
				 rel->name);
	return 0;
}

int pg_append_change(struct duct_batch *b, const struct pg_relation *relation, const struct pgout_message *message, uint64_t seq,
		     struct duct_buf *scratch, struct duct_error *err)
{
	struct job j = {b, relation, &message->change, scratch};
	int rc = check_shape(&j, message->kind, err);
	if (rc < 0)
		return rc;
	begin_row(b, (enum duct_op)message->kind, seq);
	if (message->kind == 'I')
		rc = append_new(&j, err);
	else if (message->kind == 'U')
		rc = append_update(&j, err);
	else
		rc = append_old(&j, err);
	if (rc == 0)
		return 0;
	duct_batch_undo_row(b);
	return pg_wrap_key(relation, message->kind == 'D' ? message->change.old.values : message->change.new.values, err);
}

int pg_append_delete_old(struct duct_batch *b, const struct pg_relation *relation, const struct pgout_message *message,
			 uint64_t seq, struct duct_buf *scratch, struct duct_error *err)
{
	const struct duct_relation *rel = relation->rel;
	struct pgout_change c = message->change;
	if (rel->nkeys) {
		c.old = c.old_kind ? c.old : c.new;
		c.old_kind = 'K';
	}
	for (int i = 0; i < rel->nkeys; i++)
		if (c.old.values[rel->keys[i]].kind == 'u')
			return duct_fail(err, DUCT_FATAL, "replication stream: a changed row of \"%s.%s\" lacks its key \"%s\"",
					 rel->schema, rel->name, rel->columns[rel->keys[i]].name);
	struct job j = {b, relation, &c, scratch};
	begin_row(b, DUCT_DELETE, seq);
	int rc = append_old(&j, err);
	if (rc < 0)
		duct_batch_undo_row(b);
	return rc;
}

int pg_append_insert_new(struct duct_batch *b, const struct pg_relation *relation, const struct pgout_message *message,
			 uint64_t seq, struct duct_buf *scratch, struct duct_error *err)
{
	struct job j = {b, relation, &message->change, scratch};
	begin_row(b, DUCT_INSERT, seq);
	int rc = append_new(&j, err);
	for (int i = 0; rc == 0 && i < b->relation->ncolumns; i++)
		if (!duct_vector_is_sent(&b->columns[i], b->rows - 1))
			rc = duct_fail(err, DUCT_DATA, "column \"%s\": its unchanged value was not sent",
				       b->relation->columns[i].name);
	if (rc < 0)
		duct_batch_undo_row(b);
	return rc;
}
