/* Runs and bit-packed groups: see rle.h. */
#include "parquet/rle.h"

#include "parquet/thrift_write.h"

enum { SHORTEST_RUN = 16 }; /* a shorter one inside packed groups stays there */

void parquet_rle_run(struct duct_buf *to, uint32_t value, size_t n, int width)
{
	thrift_varint(to, (uint64_t)n << 1);
	duct_buf_append(to, &value, (size_t)(width + 7) / 8);
}

/* Whole groups; the last may lack values, which are written as 0. */
static void write_packed(struct duct_buf *to, const uint32_t *values, size_t n, int width)
{
	size_t groups = (n + 7) / 8;
	if (!n)
		return;
	thrift_varint(to, groups << 1 | 1);
	char *p = duct_buf_room(to, groups * (size_t)width + 8);
	uint64_t bits = 0;
	int nbits = 0;
	for (size_t i = 0; i < groups * 8; i++) {
		bits |= (uint64_t)(i < n ? values[i] : 0) << nbits;
		nbits += width;
		if (nbits >= 32) {
			memcpy(p, &bits, 4);
			p += 4;
			bits >>= 32;
			nbits -= 32;
		}
	}
	memcpy(p, &bits, 8); /* groups * width bytes in all: what is left is whole bytes */
	to->len += groups * (size_t)width;
}

static size_t run_length(const uint32_t *values, size_t n)
{
	size_t run = 1;
	while (run < n && values[run] == values[0])
		run++;
	return run;
}

void parquet_rle_write(struct duct_buf *to, const uint32_t *values, size_t n, int width)
{
	size_t start = 0, at = 0; /* [start, at) waits to be packed: a multiple of eight values */
	while (at < n) {
		size_t run = run_length(values + at, n - at);
		/* Packed groups end at a multiple of eight: a run gives what is missing. */
		size_t gap = (8 - (at - start) % 8) % 8;
		if (run >= gap + SHORTEST_RUN || (run == n - at && start == at)) {
			write_packed(to, values + start, at + gap - start, width);
			parquet_rle_run(to, values[at], run - gap, width);
			start = at += run;
		} else {
			at += run;
		}
	}
	write_packed(to, values + start, n - start, width);
}
