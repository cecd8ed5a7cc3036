/* duct_parse_value(): the first byte picks the type. What it takes must come out of duct_format_value() and in again as
 * the same bytes. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "record/format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2)
		return 0;
	struct duct_type type = {.kind = (enum duct_kind)(DUCT_BOOL + data[0] % (DUCT_BLOB - DUCT_BOOL + 1))};
	if (type.kind == DUCT_DECIMAL) {
		type.precision = (uint8_t)(1 + data[1] % 38);
		type.scale = (uint8_t)(data[1] / 38 % (type.precision + 1));
	}
	struct duct_buf value AUTO_BUF = {0}, text AUTO_BUF = {0}, again AUTO_BUF = {0};
	struct duct_error err;
	/* Its own memory, so that a read past the end is seen. */
	char *copy = malloc(size - 2 ? size - 2 : 1);
	memcpy(copy, data + 2, size - 2);
	int ret = duct_parse_value(&value, &type, copy, size - 2, &err);
	free(copy);
	if (ret)
		return 0;
	if (duct_type_width(&type) && value.len != duct_type_width(&type))
		abort();
	duct_buf_room(&value, 1);
	struct duct_cell cell = {value.data, (uint32_t)value.len};
	duct_format_value(&text, &type, cell);
	if (duct_parse_value(&again, &type, text.data, text.len, &err) || again.len != value.len ||
	    (value.len && memcmp(again.data, value.data, value.len) != 0))
		abort();
	return 0;
}
