/* Differences of integers, packed: see delta.h. */
#include "parquet/delta.h"

#include <string.h>

enum {
	BLOCK = 128,
	MINIS = 4,
	MINI = BLOCK / MINIS,
	MOST_BLOCK_BYTES = 10 + MINIS + BLOCK * 8,
	MOST_BLOCK = 1 << 16, /* of other writers */
};

/* --- writing --- */

static uint8_t *put_varint(uint8_t *to, uint64_t v)
{
	for (; v >= 128; v >>= 7)
		*to++ = (uint8_t)(v | 128);
	*to++ = (uint8_t)v;
	return to;
}

static uint64_t zigzag(uint64_t v)
{
	return v << 1 ^ (uint64_t)((int64_t)v >> 63);
}

/* The differences of n + 1 values to the one before each, widened with their sign. */
static void differences(const void *values, size_t n, uint32_t width, uint64_t *ret)
{
	const uint32_t *narrow = values;
	const uint64_t *wide = values;
	if (width == 4)
		for (size_t i = 0; i < n; i++)
			ret[i] = (uint64_t)(int64_t)(int32_t)(narrow[i + 1] - narrow[i]);
	else
		for (size_t i = 0; i < n; i++)
			ret[i] = wide[i + 1] - wide[i];
}

/* MINI values of `bits` each, lowest first: 4 x bits bytes. */
static uint8_t *pack(uint8_t *to, const uint64_t *values, unsigned bits)
{
	__extension__ unsigned __int128 open = 0;
	unsigned filled = 0;
	for (int i = 0; i < MINI; i++) {
		open |= (__extension__(unsigned __int128) values[i]) << filled;
		filled += bits;
		if (filled >= 64) {
			uint64_t word = (uint64_t)open;
			memcpy(to, &word, sizeof word);
			to += sizeof word;
			open >>= 64;
			filled -= 64;
		}
	}
	uint64_t word = (uint64_t)open;
	memcpy(to, &word, filled / 8); /* 32 bits or none */
	return to + filled / 8;
}

/* n differences, at most BLOCK. */
static uint8_t *put_block(uint8_t *to, uint64_t *deltas, size_t n, uint64_t mask)
{
	int64_t min = (int64_t)deltas[0], max = min;
	for (size_t i = 1; i < n; i++) {
		min = (int64_t)deltas[i] < min ? (int64_t)deltas[i] : min;
		max = (int64_t)deltas[i] > max ? (int64_t)deltas[i] : max;
	}
	to = put_varint(to, zigzag((uint64_t)min));
	uint8_t *widths = to;
	to += MINIS;
	if (min == max) {
		memset(widths, 0, MINIS);
		return to;
	}
	for (size_t i = 0; i < n; i++)
		deltas[i] = (deltas[i] - (uint64_t)min) & mask;
	memset(deltas + n, 0, (BLOCK - n) * sizeof *deltas);
	for (size_t m = 0; m < MINIS; m++) {
		uint64_t any = 0;
		for (size_t i = m * MINI; i < (m + 1) * MINI; i++)
			any |= deltas[i];
		widths[m] = any ? (uint8_t)(64 - __builtin_clzll(any)) : 0;
		if (any)
			to = pack(to, deltas + m * MINI, widths[m]);
	}
	return to;
}

bool parquet_delta_write(struct duct_buf *to, const void *values, size_t n, uint32_t width, size_t most)
{
	uint64_t first = 0, mask = width == 4 ? UINT32_MAX : UINT64_MAX, deltas[BLOCK];
	int32_t narrow = 0;
	size_t begin = to->len;
	if (width == 4 && n)
		memcpy(&narrow, values, sizeof narrow);
	else if (n)
		memcpy(&first, values, sizeof first);
	first = width == 4 ? (uint64_t)(int64_t)narrow : first;
	uint8_t *start = (uint8_t *)duct_buf_room(to, 40), *at = put_varint(start, BLOCK);
	at = put_varint(put_varint(put_varint(at, MINIS), n), zigzag(first));
	to->len += (size_t)(at - start);
	for (size_t i = 0; i + 1 < n && to->len - begin <= most; i += BLOCK) {
		size_t count = n - 1 - i < BLOCK ? n - 1 - i : BLOCK;
		differences((const char *)values + i * width, count, width, deltas);
		start = (uint8_t *)duct_buf_room(to, MOST_BLOCK_BYTES);
		to->len += (size_t)(put_block(start, deltas, count, mask) - start);
	}
	bool fits = to->len - begin <= most;
	to->len = fits ? to->len : begin;
	return fits;
}

/* --- reading --- */

static bool get_varint(struct parquet_delta *d, uint64_t *ret)
{
	*ret = 0;
	for (unsigned shift = 0; shift < 64 && d->at < d->end; shift += 7) {
		uint8_t byte = *d->at++;
		*ret |= (uint64_t)(byte & 127) << shift;
		if (byte < 128)
			return true;
	}
	return false;
}

static bool get_zigzag(struct parquet_delta *d, uint64_t *ret)
{
	if (!get_varint(d, ret))
		return false;
	*ret = *ret >> 1 ^ -(*ret & 1);
	return true;
}

bool parquet_delta_open(struct parquet_delta *ret, const void *data, size_t n)
{
	uint64_t block, minis;
	*ret = (struct parquet_delta){.at = data, .end = (const uint8_t *)data + n};
	uint64_t count;
	if (!get_varint(ret, &block) || !get_varint(ret, &minis) || !get_varint(ret, &count) || !get_zigzag(ret, &ret->value))
		return false;
	if (!block || block > MOST_BLOCK || !minis || minis > block || block % minis || block / minis % 8)
		return false;
	ret->left = count;
	ret->minis = ret->mini = (uint32_t)minis;
	ret->per_mini = ret->taken = (uint32_t)(block / minis);
	return true;
}

/* A miniblock that has a difference left is open afterwards. */
static bool open_mini(struct parquet_delta *d)
{
	if (d->taken < d->per_mini)
		return true;
	if (d->mini + 1 < d->minis) {
		d->mini++;
	} else {
		if (!get_zigzag(d, &d->min) || (size_t)(d->end - d->at) < d->minis)
			return false;
		d->widths = d->at;
		d->at += d->minis;
		d->mini = 0;
	}
	unsigned width = d->widths[d->mini];
	size_t bytes = (size_t)d->per_mini / 8 * width;
	if (width > 64 || bytes > (size_t)(d->end - d->at))
		return false;
	d->packed = d->at;
	d->at += bytes;
	d->taken = 0;
	return true;
}

static uint64_t packed_at(const struct parquet_delta *d, uint32_t i)
{
	unsigned width = d->widths[d->mini];
	size_t bit = (size_t)i * width;
	const uint8_t *p = d->packed + bit / 8;
	__extension__ unsigned __int128 word = 0;
	size_t n = (size_t)(d->at - p);
	if (!width)
		return 0;
	memcpy(&word, p, n < 9 ? n : 9);
	return (uint64_t)(word >> (bit % 8)) & (UINT64_MAX >> (64 - width));
}

bool parquet_delta_get(struct parquet_delta *d, uint64_t *ret)
{
	if (!d->left)
		return false;
	*ret = d->value;
	return parquet_delta_skip(d, 1);
}

bool parquet_delta_skip(struct parquet_delta *d, uint64_t n)
{
	if (n > d->left)
		return false;
	d->left -= n;
	n -= n && !d->left; /* no difference follows the last one */
	while (n) {
		if (!open_mini(d)) {
			d->left = 0;
			return false;
		}
		uint32_t here = d->per_mini - d->taken;
		here = n < here ? (uint32_t)n : here;
		d->value += d->min * here;
		if (d->widths[d->mini])
			for (uint32_t i = 0; i < here; i++)
				d->value += packed_at(d, d->taken + i);
		d->taken += here;
		n -= here;
	}
	return true;
}
