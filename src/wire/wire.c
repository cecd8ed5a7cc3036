/* What the formats have in common, and which one a connector gets: see wire.h. */
#include "wire/wire.h"

#include <string.h>

#include "base/log.h"

static const struct wire_format *const formats[] = {&wire_arrow, &wire_json};

struct wire_rows wire_all_rows(const struct duct_changes *changes, const struct duct_batch *batch)
{
	return (struct wire_rows){.batch = batch, .count = batch->rows, .changes = changes};
}

int wire_format_find(const struct wire_format **ret, const char *name, struct duct_error *err)
{
	static const char *const later[] = {"avro", "parquet", "proto"};
	for (size_t i = 0; i < DUCT_LEN(formats); i++)
		if (strcmp(formats[i]->name, name) == 0) {
			*ret = formats[i];
			return 0;
		}
	for (size_t i = 0; i < DUCT_LEN(later); i++)
		if (strcmp(later[i], name) == 0)
			return duct_fail(err, DUCT_CONFIG, "wire format \"%s\" is not built into this version: use arrow or json",
					 name);
	return duct_fail(err, DUCT_CONFIG, "there is no wire format \"%.40s\": use arrow or json",
			 duct_dsn_has_password(name) ? "***" : name);
}

static bool is_set(const char *name)
{
	return name && *name;
}

int wire_choose(const struct wire_format **ret, const struct wire_choice *c, struct duct_error *err)
{
	const char *wanted = is_set(c->flow) ? c->flow : is_set(c->service) ? c->service : NULL;
	if (!is_set(c->connector))
		return wire_format_find(ret, wanted ? wanted : c->fallback, err);
	if (c->enforce && wanted && strcmp(c->connector, wanted) != 0)
		return duct_fail(
			err, DUCT_CONFIG,
			"\"format\" is \"%.40s\", but the wire format of the %s is \"%.40s\" and DUCTSTREAM_WIRE_ENFORCE is "
			"on: leave the option out, or set it to the same",
			c->connector, is_set(c->flow) ? "flow" : "service", wanted);
	return wire_format_find(ret, c->connector, err);
}

const char *wire_operation(enum duct_op op)
{
	switch (op) {
	case DUCT_INSERT: return "insert";
	case DUCT_UPDATE: return "update";
	case DUCT_DELETE: return "delete";
	case DUCT_TRUNCATE: return "ddl";
	case DUCT_READ: return "load";
	}
	return "";
}

struct duct_pos wire_row_pos(const struct wire_rows *rows, uint32_t row)
{
	const struct duct_changes *changes = rows->changes;
	if (!changes)
		return rows->pos;
	uint64_t seq = rows->batch->seq[row];
	size_t low = 0, high = changes->ncommits; /* the first commit that ends at or behind the row */
	while (low < high) {
		size_t middle = (low + high) / 2;
		if (changes->commits[middle].last_seq < seq)
			low = middle + 1;
		else
			high = middle;
	}
	if (low < changes->ncommits)
		return (struct duct_pos){changes->commits[low].end_lsn, changes->commits[low].commit_us};
	return (struct duct_pos){0, changes->open_commit_us};
}

void wire_truncate_statement(struct duct_buf *to, const struct duct_relation *rel)
{
	duct_buf_puts(to, "TRUNCATE TABLE ");
	duct_buf_sql_ident(to, rel->schema);
	duct_buf_putc(to, '.');
	duct_buf_sql_ident(to, rel->name);
}
