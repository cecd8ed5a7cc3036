/* Replication messages: a sequence of {u16 length, bytes} through one decoder, as a stream is; changes of the last
 * relation are made rows of a batch. */
#include <stdint.h>
#include <string.h>

#include "pg/decode_tuple.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pgout decoder = {0};
	struct pgout_message m;
	struct pg_catalog *catalog = pg_catalog_new();
	struct pg_relation *relation = NULL;
	struct duct_batch *batch = NULL;
	struct duct_buf scratch AUTO_BUF = {0};
	struct duct_error err;
	pg_catalog_add_builtin(catalog, 150000);
	while (size >= 2) {
		size_t n = (size_t)data[0] << 8 | data[1];
		data += 2;
		size -= 2;
		n = n < size ? n : size;
		struct pgout_frame frame;
		(void)!pgout_frame(&frame, data, n, &err);
		int rc = pgout_decode(&decoder, data, n, &m, &err);
		data += n;
		size -= n;
		if (rc < 0)
			continue;
		if (m.kind == 'R') {
			struct pg_relation *next = NULL;
			if (pg_relation_from_message(&next, &m.relation, NULL, catalog, 1, &err) < 0)
				continue;
			duct_batch_unref(batch);
			pg_relation_free(relation);
			relation = next;
			batch = duct_batch_new(relation->rel, 0);
		} else if (batch && (m.kind == 'I' || m.kind == 'U' || m.kind == 'D')) {
			(void)!pg_append_change(batch, relation, &m, 0, &scratch, &err);
		}
	}
	if (batch)
		duct_batch_seal(batch);
	duct_batch_unref(batch);
	pg_relation_free(relation);
	pg_catalog_free(catalog);
	pgout_done(&decoder);
	return 0;
}
