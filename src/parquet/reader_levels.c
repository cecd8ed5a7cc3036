/* Runs and packed bits: see reader_levels.h. */
#include "parquet/reader_levels.h"

#include <string.h>

struct parquet_hybrid parquet_hybrid_over(const uint8_t *data, size_t n, unsigned width)
{
	struct parquet_hybrid h = {.at = data, .end = data + n, .width = width};
	if (!width)
		h.left = UINT64_MAX;
	return h;
}

static bool read_varint(struct parquet_hybrid *h, uint64_t *ret)
{
	uint64_t v = 0;
	for (unsigned shift = 0; shift < 35; shift += 7) {
		if (h->at == h->end)
			return false;
		uint8_t byte = *h->at++;
		v |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80)) {
			*ret = v;
			return true;
		}
	}
	return false;
}

/* Opens the next run, which has a value at least. */
static bool open_run(struct parquet_hybrid *h)
{
	uint64_t head, have;
	while (h->left == 0) {
		if (!read_varint(h, &head))
			return false;
		have = (uint64_t)(h->end - h->at);
		h->packed = head & 1;
		if (h->packed) {
			uint64_t bytes = (head >> 1) * h->width;
			bytes = bytes < have ? bytes : have; /* some writers cut the last group */
			h->left = bytes * 8 / h->width;
			h->left = h->left < (head >> 1) * 8 ? h->left : (head >> 1) * 8;
			h->bits = h->at;
			h->bit = 0;
			h->at += bytes;
			if (!h->left)
				return false;
		} else {
			size_t bytes = (h->width + 7) / 8;
			if (have < bytes)
				return false;
			h->value = 0;
			memcpy(&h->value, h->at, bytes);
			h->at += bytes;
			h->left = head >> 1;
		}
	}
	return true;
}

/* The packed value that begins at `bit`; all its bytes are there. */
static uint32_t unpack(const struct parquet_hybrid *h, uint64_t bit)
{
	uint64_t word = 0;
	size_t bytes = ((bit & 7) + h->width + 7) / 8;
	memcpy(&word, h->bits + (bit >> 3), bytes);
	return (uint32_t)(word >> (bit & 7) & ((UINT64_C(1) << h->width) - 1));
}

bool parquet_hybrid_get(struct parquet_hybrid *h, uint32_t *ret)
{
	if (h->left == 0 && !open_run(h))
		return false;
	if (h->packed) {
		*ret = unpack(h, h->bit);
		h->bit += h->width;
	} else {
		*ret = h->value;
	}
	h->left--;
	return true;
}

/* How many of n single bits from `bit` on are set. */
static uint64_t count_bits(const uint8_t *bits, uint64_t bit, uint64_t n)
{
	uint64_t count = 0;
	for (; n && (bit & 7); bit++, n--)
		count += bits[bit >> 3] >> (bit & 7) & 1;
	for (; n >= 64; bit += 64, n -= 64) {
		uint64_t word;
		memcpy(&word, bits + (bit >> 3), 8);
		count += (uint64_t)__builtin_popcountll(word);
	}
	for (; n; bit++, n--)
		count += bits[bit >> 3] >> (bit & 7) & 1;
	return count;
}

static uint64_t count_packed(const struct parquet_hybrid *h, uint64_t n, uint32_t value)
{
	uint64_t count = 0;
	if (h->width == 1) {
		count = count_bits(h->bits, h->bit, n);
		return value ? count : n - count;
	}
	for (uint64_t i = 0; i < n; i++)
		count += unpack(h, h->bit + i * h->width) == value;
	return count;
}

bool parquet_hybrid_skip(struct parquet_hybrid *h, uint64_t n, uint32_t value, uint64_t *ret_equal)
{
	uint64_t equal = 0;
	while (n) {
		if (h->left == 0 && !open_run(h))
			return false;
		uint64_t step = n < h->left ? n : h->left;
		if (!h->packed) {
			equal += h->value == value ? step : 0;
		} else {
			equal += ret_equal ? count_packed(h, step, value) : 0;
			h->bit += step * h->width;
		}
		h->left -= step;
		n -= step;
	}
	if (ret_equal)
		*ret_equal = equal;
	return true;
}
