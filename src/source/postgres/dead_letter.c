/* The table of rows that cannot be stored: see dead_letter.h. */
#include "source/postgres/dead_letter.h"

#include "base/mem.h"
#include "record/position.h"

#include <string.h>

static const struct {
	const char *name;
	enum duct_kind kind;
} columns[] = {
	{"source_schema", DUCT_VARCHAR},
	{"source_table", DUCT_VARCHAR},
	{"op", DUCT_VARCHAR},
	{"key", DUCT_JSON},
	{"row", DUCT_JSON},
	{"error", DUCT_VARCHAR},
	{"lsn", DUCT_VARCHAR},
	{"commit_time", DUCT_TIMESTAMPTZ},
};

struct duct_relation *postgres_dead_letter_relation(const char *name)
{
	struct duct_relation *rel = duct_relation_new();
	rel->oid = POSTGRES_DEAD_LETTER_OID;
	rel->version = 1;
	rel->schema = "ductstream";
	rel->name = duct_arena_strdup(&rel->arena, name);
	rel->identity = DUCT_IDENTITY_NONE;
	rel->synthetic = true;
	rel->ncolumns = DUCT_LEN(columns);
	rel->columns = duct_arena_zalloc(&rel->arena, DUCT_LEN(columns) * sizeof *rel->columns);
	for (int i = 0; i < rel->ncolumns; i++)
		rel->columns[i] = (struct duct_column){.name = columns[i].name,
						       .type = {.kind = columns[i].kind},
						       .attnum = (int16_t)(i + 1)};
	return rel;
}

static const struct pg_value *value_of(const struct postgres_dead_letter *l, int column)
{
	const struct pg_value *v = &l->values[column];
	return v->kind == 'u' && l->old ? &l->old[column] : v;
}

/* {"column": "text", ...} */
static void put_object(struct duct_buf *to, const struct postgres_dead_letter *l, bool key_only)
{
	const struct duct_relation *rel = l->relation->rel;
	AUTO_BUF struct duct_buf text = {0};
	duct_buf_putc(to, '{');
	for (int i = 0, n = 0; i < rel->ncolumns; i++) {
		const struct pg_value *v = value_of(l, i);
		if (v->kind == 'u' || (key_only && !rel->columns[i].key))
			continue;
		duct_buf_puts(to, n++ ? ", " : "");
		duct_buf_json_string(to, rel->columns[i].name, strlen(rel->columns[i].name));
		duct_buf_puts(to, ": ");
		if (v->kind == 'n') {
			duct_buf_puts(to, "null");
			continue;
		}
		text.len = 0;
		pg_render(&l->relation->mappings[i], v->kind, v->data, v->len, &text);
		duct_buf_json_string(to, text.data ? text.data : "", text.len);
	}
	duct_buf_putc(to, '}');
}

static void put(struct duct_batch *b, int column, const char *data, size_t len)
{
	memcpy(duct_vector_append(b, &b->columns[column], (uint32_t)len), data, len);
}

void postgres_dead_letter_append(struct duct_batch *b, const struct postgres_dead_letter *l, uint64_t seq)
{
	const struct duct_relation *rel = l->relation->rel;
	AUTO_BUF struct duct_buf key = {0}, row = {0};
	char lsn[DUCT_LSN_LEN];
	put_object(&row, l, false);
	(void)duct_batch_add_row(b, l->op == DUCT_READ ? DUCT_READ : DUCT_INSERT, seq);
	put(b, 0, rel->schema, strlen(rel->schema));
	put(b, 1, rel->name, strlen(rel->name));
	put(b, 2, &l->op, 1);
	if (rel->nkeys) {
		put_object(&key, l, true);
		put(b, 3, key.data, key.len);
	} else {
		duct_vector_append_null(b, &b->columns[3]);
	}
	put(b, 4, row.data, row.len);
	put(b, 5, l->error, strlen(l->error));
	duct_lsn_format(lsn, l->lsn);
	put(b, 6, lsn, strlen(lsn));
	if (l->commit_us)
		put(b, 7, (const char *)&l->commit_us, sizeof l->commit_us);
	else
		duct_vector_append_null(b, &b->columns[7]);
}
