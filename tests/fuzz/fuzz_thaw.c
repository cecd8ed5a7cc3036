/* Frozen relations and changes from any bytes: what is taken can be read in full. The first byte says where the relation ends. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "record/freeze.h"

static volatile unsigned sink;

static void read_vector(const struct duct_vector *v, uint32_t rows)
{
	for (uint32_t i = 0; i < rows; i++) {
		struct duct_cell cell = duct_vector_cell(v, i);
		for (uint32_t k = 0; cell.data && k < cell.len; k++)
			sink += (unsigned char)cell.data[k];
		sink += duct_vector_is_sent(v, i);
	}
}

static void read_batch(const struct duct_batch *b)
{
	for (int c = 0; c < b->relation->ncolumns; c++) {
		read_vector(&b->columns[c], b->rows);
		if (b->old_rows)
			read_vector(&b->old[c], b->old_rows);
	}
	for (uint32_t i = 0; i < b->rows; i++)
		if (b->old_row[i] >= (int64_t)b->old_rows)
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2)
		return 0;
	size_t at = 2 + ((size_t)data[0] << 8 | data[1]) % (size - 1);
	struct duct_thaw thaw = {0};
	struct duct_changes *changes = NULL;
	struct duct_error err;
	if (duct_thaw_relation(&thaw, (const char *)data + 2, at - 2, &err) == 0) {
		AUTO_BUF struct duct_buf again = {0};
		duct_freeze_relation(&again, thaw.relations[0].relation);
	}
	if (duct_thaw_changes(&thaw, (const char *)data + at, size - at, &changes, &err) == 0) {
		for (size_t i = 0; i < changes->nbatches; i++)
			read_batch(changes->batches[i]);
		duct_changes_free(changes);
	}
	duct_thaw_done(&thaw);
	return 0;
}
