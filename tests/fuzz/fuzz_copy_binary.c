/* COPY in binary: the first byte is how the rest is cut into pieces. */
#include <stdint.h>
#include <stdlib.h>

#include "pg/copy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct pg_table_column columns[] = {
		{.name = "a", .attnum = 1, .typid = 23, .typmod = -1, .type_name = "integer"},
		{.name = "b", .attnum = 2, .typid = 25, .typmod = -1, .type_name = "text"},
		{.name = "c", .attnum = 3, .typid = 1231, .typmod = (10 << 16 | 2) + 4, .type_name = "numeric(10,2)[]"},
		{.name = "d", .attnum = 4, .typid = 3906, .typmod = -1, .type_name = "numrange"},
		{.name = "e", .attnum = 5, .typid = 3614, .typmod = -1, .type_name = "tsvector"},
	};
	static const struct pg_table table = {
		.oid = 9, .schema = "s", .name = "t", .kind = 'r', .identity = 'n', .ncolumns = 5, .columns = columns};
	struct pg_catalog *catalog = pg_catalog_new();
	struct pg_relation *relation;
	struct pg_copy copy = {0};
	struct duct_error err;
	pg_catalog_add_builtin(catalog, 150000);
	if (pg_relation_from_table(&relation, &table, catalog, NULL, 0, 1, &err) < 0)
		abort();
	struct duct_batch *batch = duct_batch_new(relation->rel, 0);
	size_t step = size ? (size_t)data[0] + 1 : 1;
	for (size_t at = 1; at < size; at += step) {
		size_t n = size - at < step ? size - at : step;
		if (pg_copy_feed(&copy, relation, batch, 0, data + at, n, &err) < 0)
			break;
	}
	(void)!pg_copy_finish(&copy, &err);
	duct_batch_seal(batch);
	duct_batch_unref(batch);
	pg_copy_done(&copy);
	pg_relation_free(relation);
	pg_catalog_free(catalog);
	return 0;
}
