/* Pages and chunks of one leaf column: see writer_internal.h. */
#include "parquet/writer_internal.h"

#include "base/utf8.h"
#include "parquet/delta.h"
#include "parquet/rle.h"

enum {
	LONGEST_ENTRY = 512, /* a longer string ends the dictionary */
	MOST_ENTRIES = 32768,
	EARLY_LOOK = 256,
	LATE_LOOK = 4096,
	FEWEST_DIFFERENCES = 64,
	LONG_PAGE = 16 << 10, /* shorter ones do not tell */
	KEEP_BYTES = 4 << 20, /* a larger buffer is given back when its page is closed */
};

static bool has_indexed(const struct parquet_leaf *leaf)
{
	return leaf->encodings & 1u << PARQUET_RLE_DICTIONARY;
}

void parquet_leaf_init(struct parquet_leaf *leaf, size_t budget_bytes)
{
	leaf->dictionary.width = leaf->width;
	leaf->dictionary.max_entries = MOST_ENTRIES;
	leaf->dictionary.max_bytes = budget_bytes;
	leaf->indexed = leaf->form != PARQUET_FORM_BOOL;
}

void parquet_leaf_done(struct parquet_leaf *leaf)
{
	parquet_dictionary_done(&leaf->dictionary);
	duct_buf_done(&leaf->values);
	duct_buf_done(&leaf->def);
	duct_buf_done(&leaf->rep);
	duct_buf_done(&leaf->out);
	duct_buf_done(&leaf->page_bounds);
	free(leaf->numbers);
	free(leaf->pages);
}

/* --- values --- */

void parquet_leaf_keep_defs(struct parquet_leaf *leaf)
{
	if (leaf->def.len == leaf->nlevels)
		return;
	memset(duct_buf_room(&leaf->def, leaf->nlevels), leaf->max_def, leaf->nlevels);
	leaf->def.len = leaf->nlevels;
}

void parquet_leaf_to_plain(struct parquet_leaf *leaf)
{
	leaf->indexed = false;
	parquet_leaf_room(leaf, leaf->plain_bytes);
	for (uint32_t i = 0; i < leaf->nvalues; i++) {
		uint32_t len;
		const char *p = parquet_dictionary_entry(&leaf->dictionary, leaf->numbers[i], &len);
		leaf->numbers[i] = len;
		duct_buf_append(&leaf->values, p, len);
	}
}

void parquet_leaf_judge(struct parquet_leaf *leaf)
{
	const struct parquet_dictionary *d = &leaf->dictionary;
	uint32_t n = leaf->nvalues;
	if (!leaf->indexed || has_indexed(leaf) || n < EARLY_LOOK)
		return;
	if (d->n == n || (n >= LATE_LOOK && d->n > n / 10 * 9))
		parquet_leaf_to_plain(leaf);
}

static bool dictionary_pays(const struct parquet_leaf *leaf)
{
	size_t packed = (size_t)leaf->nvalues * (size_t)parquet_bit_width(leaf->dictionary.n ? leaf->dictionary.n - 1 : 0) / 8;
	return has_indexed(leaf) || leaf->dictionary.values.len + packed <= leaf->plain_bytes / 4 * 3;
}

void parquet_leaf_put_string(struct parquet_leaf *leaf, const char *p, uint32_t len)
{
	uint32_t *number = parquet_leaf_numbers(leaf, 1);
	int64_t index = PARQUET_NO_ENTRY;
	if (leaf->indexed && len <= LONGEST_ENTRY)
		index = parquet_dictionary_put(&leaf->dictionary, p, len);
	if (index >= 0) {
		*number = (uint32_t)index;
	} else {
		if (leaf->indexed)
			parquet_leaf_to_plain(leaf);
		*number = len;
		char *to = parquet_leaf_room(leaf, len);
		if (len)
			memcpy(to, p, len);
		leaf->values.len += len;
	}
	leaf->plain_bytes += len + sizeof len;
	leaf->nvalues++;
}

/* A value of an in-memory type as it is in the file; to has 16 bytes. */
static void to_physical(const struct duct_type *type, const char *p, char *to)
{
	int64_t wide = 0;
	int32_t narrow = 0;
	uint64_t half[2];
	switch (type->kind) {
	case DUCT_INT8: narrow = *(const int8_t *)p; break;
	case DUCT_UINT8: narrow = *(const uint8_t *)p; break;
	case DUCT_INT16: {
		int16_t v;
		memcpy(&v, p, sizeof v);
		narrow = v;
		break;
	}
	case DUCT_UINT16: memcpy(&narrow, p, 2); break;
	case DUCT_DECIMAL:
		if (type->precision > 18) {
			memcpy(half, p, sizeof half);
			wide = (int64_t)__builtin_bswap64(half[0]);
			half[0] = __builtin_bswap64(half[1]);
			half[1] = (uint64_t)wide;
			memcpy(to, half, sizeof half);
			return;
		}
		memcpy(&wide, p, sizeof wide);
		narrow = (int32_t)wide;
		if (type->precision <= 9)
			break;
		memcpy(to, &wide, sizeof wide);
		return;
	default: memcpy(to, p, duct_type_width(type)); return;
	}
	memcpy(to, &narrow, sizeof narrow);
}

static void put_fixed(struct parquet_leaf *leaf, const char *p)
{
	char value[16];
	to_physical(leaf->type, p, value);
	parquet_bounds_fixed(&leaf->page, leaf->form, value, 1);
	leaf->plain_bytes += leaf->width;
	if (leaf->indexed) {
		int64_t index = parquet_dictionary_put(&leaf->dictionary, value, leaf->width);
		if (index >= 0) {
			*parquet_leaf_numbers(leaf, 1) = (uint32_t)index;
			leaf->nvalues++;
			return;
		}
		parquet_leaf_to_plain(leaf);
	}
	memcpy(parquet_leaf_room(leaf, leaf->width), value, leaf->width);
	leaf->values.len += leaf->width;
	leaf->nvalues++;
}

int parquet_leaf_put(struct parquet_writer *w, struct parquet_leaf *leaf, int rep, int def, const char *data, uint32_t len,
		     struct duct_error *err)
{
	if (!rep && parquet_leaf_page_full(w, leaf)) {
		int ret = parquet_leaf_end_page(w, leaf, err);
		if (ret)
			return ret;
	}
	if (leaf->max_rep)
		duct_buf_putc(&leaf->rep, (char)rep);
	if (def != leaf->max_def && !leaf->def.len)
		parquet_leaf_keep_defs(leaf);
	if (def != leaf->max_def || leaf->def.len)
		duct_buf_putc(&leaf->def, (char)def);
	leaf->nlevels++;
	leaf->nrows += !rep;
	if (!data)
		return 0;
	size_t before = leaf->plain_bytes;
	if (leaf->width) {
		put_fixed(leaf, data);
	} else {
		if (leaf->form == PARQUET_FORM_TEXT && !duct_utf8_valid(data, len))
			return duct_fail(err, DUCT_DATA, "a text value of %u bytes is not valid UTF-8", len);
		parquet_bounds_string(&leaf->page, data, len);
		parquet_leaf_put_string(leaf, data, len);
	}
	w->group_raw += leaf->plain_bytes - before;
	if (leaf->nvalues == EARLY_LOOK || leaf->nvalues == LATE_LOOK)
		parquet_leaf_judge(leaf);
	return 0;
}

/* --- pages --- */

static void put_levels(struct parquet_writer *w, const struct duct_buf *levels, int max, uint32_t n)
{
	struct duct_buf *to = &w->raw;
	uint32_t len = 0;
	size_t at = to->len;
	int width = parquet_bit_width((uint32_t)max);
	if (!max)
		return;
	duct_buf_append(to, &len, sizeof len);
	if (levels->len) {
		w->levels = duct_grow(w->levels, &w->levels_cap, n, sizeof *w->levels);
		for (uint32_t i = 0; i < n; i++)
			w->levels[i] = (uint8_t)levels->data[i];
		parquet_rle_write(to, w->levels, n, width);
	} else {
		parquet_rle_run(to, (uint32_t)max, n, width);
	}
	len = (uint32_t)(to->len - at - sizeof len);
	memcpy(to->data + at, &len, sizeof len);
}

/* Each string behind its length, for readers of Parquet's first version. */
static void put_plain_strings(struct parquet_writer *w, const struct parquet_leaf *leaf)
{
	const char *from = leaf->values.data + PARQUET_HEAD;
	duct_buf_room(&w->raw, leaf->plain_bytes);
	for (uint32_t i = 0; i < leaf->nvalues; i++) {
		duct_buf_append(&w->raw, &leaf->numbers[i], sizeof *leaf->numbers);
		duct_buf_append(&w->raw, from, leaf->numbers[i]);
		from += leaf->numbers[i];
	}
}

static void put_values(struct parquet_writer *w, const struct parquet_leaf *leaf)
{
	if (leaf->indexed) {
		int width = parquet_bit_width(leaf->dictionary.n ? leaf->dictionary.n - 1 : 0);
		duct_buf_putc(&w->raw, (char)width);
		parquet_rle_write(&w->raw, leaf->numbers, leaf->nvalues, width);
	} else if (leaf->form == PARQUET_FORM_BOOL) {
		size_t n = (leaf->nvalues + 7) / 8;
		uint8_t *to = memset(duct_buf_room(&w->raw, n), 0, n);
		for (uint32_t i = 0; i < leaf->nvalues; i++)
			to[i >> 3] |= (uint8_t)((leaf->values.data[PARQUET_HEAD + i] & 1) << (i & 7));
		w->raw.len += n;
	} else if (!leaf->width && w->settings.first_version) {
		put_plain_strings(w, leaf);
	} else {
		duct_buf_append(&w->raw, leaf->values.data + PARQUET_HEAD, leaf->values.len - PARQUET_HEAD);
	}
}

/* What a page holds before it is compressed. */
struct raw_page {
	const char *data;
	size_t n;
};

/* Integers whose differences take clearly less room; where they do not, the chunk's other pages are not tried. */
static bool put_differences(struct parquet_writer *w, struct parquet_leaf *leaf)
{
	bool integer = leaf->physical == PARQUET_INT32 || leaf->physical == PARQUET_INT64;
	if (!integer || w->settings.first_version || leaf->indexed || leaf->no_delta || leaf->nvalues < FEWEST_DIFFERENCES)
		return false;
	size_t plain = leaf->values.len - PARQUET_HEAD;
	leaf->no_delta = !parquet_delta_write(&w->raw, leaf->values.data + PARQUET_HEAD, leaf->nvalues, leaf->width, plain / 8 * 7);
	return !leaf->no_delta;
}

/* What comes before the bytes of the values, into w->raw. */
static enum parquet_encoding put_head(struct parquet_writer *w, struct parquet_leaf *leaf)
{
	put_levels(w, &leaf->rep, leaf->max_rep, leaf->nlevels);
	put_levels(w, &leaf->def, leaf->max_def, leaf->nlevels);
	if (!leaf->nvalues || leaf->indexed)
		return leaf->nvalues ? PARQUET_RLE_DICTIONARY : PARQUET_PLAIN;
	if (leaf->width || w->settings.first_version)
		return PARQUET_PLAIN;
	/* Strings without their lengths between them repeat at other places, or not at all, which compressors see sooner. */
	parquet_delta_write(&w->raw, leaf->numbers, leaf->nvalues, sizeof *leaf->numbers, SIZE_MAX);
	return PARQUET_DELTA_LENGTH_BYTE_ARRAY;
}

/* Levels and values of the open page; in w->raw unless the values need not be moved. */
static struct raw_page raw_page(struct parquet_writer *w, struct parquet_leaf *leaf, enum parquet_encoding *ret_encoding)
{
	w->raw.len = 0;
	*ret_encoding = put_head(w, leaf);
	if (put_differences(w, leaf)) {
		*ret_encoding = PARQUET_DELTA_BINARY_PACKED;
		return (struct raw_page){w->raw.data, w->raw.len};
	}
	bool as_is = leaf->form != PARQUET_FORM_BOOL && (leaf->width || !w->settings.first_version);
	if (leaf->nvalues && !leaf->indexed && as_is && w->raw.len <= PARQUET_HEAD) {
		char *start = leaf->values.data + PARQUET_HEAD - w->raw.len;
		if (w->raw.len)
			memcpy(start, w->raw.data, w->raw.len);
		return (struct raw_page){start, leaf->values.len - PARQUET_HEAD + w->raw.len};
	}
	if (leaf->nvalues)
		put_values(w, leaf);
	return (struct raw_page){w->raw.data, w->raw.len};
}

/*
 * Into w->packed. Text that hardly repeats (hashes, tokens) is still packed by the frequencies of its bytes, and looking for repetitions
 * costs most of the time: the first page of a chunk is packed both ways.
 */
static int pack(struct parquet_writer *w, struct parquet_leaf *leaf, struct raw_page raw, struct duct_error *err)
{
	struct parquet_packer *p = &w->packer;
	bool first = !leaf->npages;
	w->packed.len = 0;
	p->hasty = leaf->hasty && !first;
	int ret = parquet_pack(p, &w->packed, raw.data, raw.n, err);
	if (ret || !first || leaf->width || p->codec != PARQUET_ZSTD)
		return ret;
	size_t thorough = w->packed.len;
	leaf->hasty = raw.n >= LONG_PAGE && thorough > raw.n / 5 * 2;
	if (!leaf->hasty)
		return 0;
	p->hasty = true;
	ret = parquet_pack(p, &w->packed, raw.data, raw.n, err);
	leaf->hasty = w->packed.len - thorough <= thorough / 8 * 9;
	w->packed.len = thorough;
	return ret;
}

/* Compresses a page and puts it behind its header. */
static int pack_page(struct parquet_writer *w, struct parquet_leaf *leaf, struct duct_buf *to, enum parquet_page type,
		     uint32_t nvalues, enum parquet_encoding encoding, struct raw_page raw, int64_t *raw_bytes,
		     struct duct_error *err)
{
	struct thrift_writer t = {.to = to};
	size_t start = to->len;
	if (raw.n > INT32_MAX)
		return duct_fail(err, DUCT_DATA, "a row has %zu bytes in one column, a page holds 2 GiB at most", raw.n);
	int ret = pack(w, leaf, raw, err);
	if (ret)
		return ret;
	thrift_put_i32(&t, PARQUET_PAGE_TYPE, (int32_t)type);
	thrift_put_i32(&t, PARQUET_PAGE_RAW_BYTES, (int32_t)raw.n);
	thrift_put_i32(&t, PARQUET_PAGE_COMPRESSED_BYTES, (int32_t)w->packed.len);
	thrift_put_struct(&t, type == PARQUET_DATA_PAGE ? PARQUET_PAGE_DATA : PARQUET_PAGE_DICTIONARY);
	thrift_put_i32(&t, PARQUET_DATA_NUM_VALUES, (int32_t)nvalues);
	thrift_put_i32(&t, PARQUET_DATA_ENCODING, (int32_t)encoding);
	if (type == PARQUET_DATA_PAGE) {
		thrift_put_i32(&t, PARQUET_DATA_DEFINITION_ENCODING, PARQUET_RLE);
		thrift_put_i32(&t, PARQUET_DATA_REPETITION_ENCODING, PARQUET_RLE);
	}
	thrift_put_end(&t);
	thrift_put_end(&t);
	*raw_bytes += (int64_t)(to->len - start + raw.n);
	duct_buf_append(to, w->packed.data, w->packed.len);
	return 0;
}

static void give_back(struct duct_buf *b)
{
	b->len = 0;
	if (b->cap > KEEP_BYTES)
		duct_buf_done(b);
}

static void note_page(struct parquet_leaf *leaf, uint32_t bytes)
{
	struct parquet_page_facts page = {.bytes = bytes,
					  .nrows = leaf->nrows,
					  .nulls = leaf->nlevels - leaf->nvalues,
					  .null_page = leaf->nvalues == 0};
	char *to = duct_buf_room(&leaf->page_bounds, 2 * (PARQUET_BOUND_BYTES + 8));
	bool exact;
	if (parquet_bound(&leaf->page, leaf->form, false, PARQUET_INDEX_BOUND, to, &page.min_len, &exact) &&
	    parquet_bound(&leaf->page, leaf->form, true, PARQUET_INDEX_BOUND, to + page.min_len, &page.max_len, &exact))
		leaf->page_bounds.len += page.min_len + page.max_len;
	else
		leaf->no_index |= !page.null_page;
	leaf->pages = duct_grow(leaf->pages, &leaf->pages_cap, leaf->npages + 1, sizeof *leaf->pages);
	leaf->pages[leaf->npages++] = page;
	leaf->chunk_levels += leaf->nlevels;
	leaf->chunk_nulls += page.nulls;
	parquet_bounds_merge(&leaf->chunk, &leaf->page, leaf->form);
}

int parquet_leaf_end_page(struct parquet_writer *w, struct parquet_leaf *leaf, struct duct_error *err)
{
	if (!leaf->nlevels)
		return 0;
	if (leaf->indexed && (!leaf->nvalues || !dictionary_pays(leaf))) {
		bool later = !leaf->nvalues; /* NULLs only: the next page may have values */
		parquet_leaf_to_plain(leaf);
		leaf->indexed = later;
	}
	size_t before = leaf->out.len;
	enum parquet_encoding encoding;
	struct raw_page raw = raw_page(w, leaf, &encoding);
	int ret = pack_page(w, leaf, &leaf->out, PARQUET_DATA_PAGE, leaf->nlevels, encoding, raw, &leaf->chunk_raw, err);
	if (ret)
		return ret;
	leaf->encodings |= 1u << encoding;
	note_page(leaf, (uint32_t)(leaf->out.len - before));
	w->raw_total += leaf->plain_bytes;
	give_back(&leaf->values);
	give_back(&leaf->def);
	give_back(&leaf->rep);
	give_back(&w->raw);
	give_back(&w->packed);
	leaf->plain_bytes = 0;
	leaf->nlevels = leaf->nvalues = leaf->nrows = 0;
	leaf->page.any = leaf->page.nan = false;
	return 0;
}

/* --- chunks --- */

static void take_bound(struct parquet_writer *w, const struct parquet_leaf *leaf, bool upper, char **ret, uint32_t *len,
		       bool *exact)
{
	char bytes[PARQUET_BOUND_BYTES + 8];
	*ret = NULL;
	if (parquet_bound(&leaf->chunk, leaf->form, upper, PARQUET_INDEX_BOUND, bytes, len, exact))
		*ret = duct_arena_dup(&w->arena, bytes, *len);
}

static void reset_chunk(struct parquet_leaf *leaf)
{
	parquet_dictionary_clear(&leaf->dictionary);
	leaf->indexed = leaf->form != PARQUET_FORM_BOOL;
	leaf->no_index = leaf->no_delta = false;
	leaf->encodings = 0;
	leaf->out.len = leaf->page_bounds.len = 0;
	leaf->npages = 0;
	leaf->chunk_levels = leaf->chunk_nulls = leaf->chunk_raw = 0;
	leaf->chunk.any = leaf->chunk.nan = false;
}

int parquet_leaf_end_chunk(struct parquet_writer *w, struct parquet_leaf *leaf, struct duct_error *err)
{
	struct parquet_chunk chunk = {0};
	struct duct_buf page AUTO_BUF = {0};
	int ret = parquet_leaf_end_page(w, leaf, err);
	if (!ret && has_indexed(leaf)) {
		struct raw_page raw = {leaf->dictionary.values.data, leaf->dictionary.values.len};
		ret = pack_page(w, leaf, &page, PARQUET_DICTIONARY_PAGE, leaf->dictionary.n, PARQUET_PLAIN, raw, &leaf->chunk_raw,
				err);
	}
	if (ret)
		return ret;
	chunk.dictionary_at = page.len ? (int64_t)w->at : 0;
	chunk.data_at = (int64_t)(w->at + page.len);
	chunk.bytes = (int64_t)(page.len + leaf->out.len);
	chunk.nlevels = leaf->chunk_levels;
	chunk.nnulls = leaf->chunk_nulls;
	chunk.raw_bytes = leaf->chunk_raw;
	chunk.encodings = leaf->encodings | 1u << PARQUET_RLE;
	take_bound(w, leaf, false, &chunk.min, &chunk.min_len, &chunk.min_exact);
	take_bound(w, leaf, true, &chunk.max, &chunk.max_len, &chunk.max_exact);
	parquet_write_indexes(w, leaf, &chunk);
	w->chunks = duct_grow(w->chunks, &w->chunks_cap, w->nchunks + 1, sizeof *w->chunks);
	w->chunks[w->nchunks++] = chunk;
	leaf->file_values += chunk.nlevels - chunk.nnulls;
	leaf->file_nulls += chunk.nnulls;
	leaf->file_bytes += chunk.bytes;
	parquet_bounds_merge(&leaf->file, &leaf->chunk, leaf->form);
	leaf->file.nan |= leaf->chunk.nan;
	ret = parquet_file_put(w, page.data, page.len, err);
	ret = ret ? ret : parquet_file_put(w, leaf->out.data, leaf->out.len, err);
	reset_chunk(leaf);
	return ret;
}
