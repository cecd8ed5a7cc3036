/*
 * One leaf of the schema at ascending rows: finds the page of each, reads it (with those behind it that are wanted,
 * too), and goes through levels and values forward only.
 */
#include "parquet/reader_internal.h"

#include "base/mem.h"
#include "base/utf8.h"
#include "parquet/delta.h"
#include "parquet/reader_levels.h"

#include <inttypes.h>
#include <string.h>
#include <zlib.h>

enum {
	WINDOW_BYTES = 1 << 20, /* of pages that are read at once */
	KEPT_BYTES = 4 << 20,	/* a larger window is given back once its page is decompressed */
	MAX_ENTRIES = 1 << 24,	/* of one row */
	SERVED_ENCODINGS = 1 << PARQUET_PLAIN | 1 << PARQUET_PLAIN_DICTIONARY | 1 << PARQUET_RLE | 1 << PARQUET_RLE_DICTIONARY |
		1 << PARQUET_DELTA_BINARY_PACKED | 1 << PARQUET_DELTA_LENGTH_BYTE_ARRAY,
};

/* Memory that is used again for the next page. */
struct space {
	uint8_t *data;
	size_t cap;
};

struct parquet_leaf {
	struct parquet_file *file;
	const struct parquet_node *node;
	uint32_t width; /* bytes of a value in the file, 0: they say it themselves */
	const int64_t *rows;
	size_t n, at;

	const struct parquet_group *group; /* NULL before the first row */
	struct parquet_chunk *chunk;
	int64_t start; /* of the chunk */

	struct space window, raw, dictionary;
	int64_t window_at;
	size_t window_bytes;

	/* The dictionary of the chunk. */
	bool has_dictionary;
	const uint8_t *entries, *entries_end;
	uint32_t nentries;
	uint32_t *entry_offsets; /* of entries that say their length */
	size_t entry_offsets_cap;

	/* The page, UINT32_MAX: none is open. */
	uint32_t page, page_row; /* row: the next one, in the page */
	int encoding;
	uint32_t left; /* entries in the page not taken yet; of a repeated leaf */
	bool has_ahead;
	uint32_t ahead;						/* the next entry's repetition level */
	struct parquet_hybrid definitions, repetitions, packed; /* packed: indices or booleans */
	const uint8_t *values, *values_end;
	uint64_t next_bit;	    /* of plain booleans */
	struct parquet_delta delta; /* of values, or of their lengths */

	char scratch[16];

	/* Of the row that was taken last. */
	struct parquet_entry *taken;
	size_t ntaken, taken_cap;
};

static uint8_t *reserve(struct space *s, size_t n)
{
	if (s->cap < n) {
		free(s->data);
		s->data = duct_xmalloc(n);
		s->cap = n;
	}
	return s->data;
}

static uint32_t file_width(const struct parquet_node *node)
{
	switch (node->type) {
	case PARQUET_INT32:
	case PARQUET_FLOAT: return 4;
	case PARQUET_INT64:
	case PARQUET_DOUBLE: return 8;
	case PARQUET_FIXED: return (uint32_t)node->type_length;
	default: return 0;
	}
}

/* --- open --- */

/* The row group that has the row, which is in the file; `from`: none before it has. */
static const struct parquet_group *find_group(const struct parquet_footer *f, const struct parquet_group *from, int64_t row)
{
	const struct parquet_group *end = f->groups + f->ngroups;
	const struct parquet_group *g = from ? from : f->groups;
	while (g < end && row >= g->first_row + g->rows)
		g++;
	return g < end ? g : NULL;
}

/* v1 pages of repeated leaves say how many rows they hold in the page index only. */
static bool groups_served(const struct parquet_footer *f, const struct parquet_node *node, const int64_t *rows, size_t n)
{
	const struct parquet_group *g = NULL;
	for (size_t i = 0; i < n; i++) {
		if (g && rows[i] < g->first_row + g->rows)
			continue;
		g = find_group(f, g, rows[i]);
		const struct parquet_chunk *c = &g->chunks[node->leaf];
		if (c->elsewhere || (node->max_repetition && !c->index_bytes) || !parquet_codec_served(c->codec) ||
		    (c->encodings & ~(uint32_t)SERVED_ENCODINGS))
			return false;
	}
	return true;
}

int parquet_leaf_open(struct parquet_leaf **ret, struct parquet_file *file, const struct parquet_node *node, const int64_t *rows,
		      size_t n)
{
	if (!groups_served(file->footer, node, rows, n))
		return 0;
	struct parquet_leaf *c = duct_xcalloc(1, sizeof *c);
	c->file = file;
	c->node = node;
	c->width = file_width(node);
	c->rows = rows;
	c->n = n;
	c->page = UINT32_MAX;
	*ret = c;
	return 1;
}

void parquet_leaf_close(struct parquet_leaf *c)
{
	if (!c)
		return;
	free(c->window.data);
	free(c->raw.data);
	free(c->dictionary.data);
	free(c->entry_offsets);
	free(c->taken);
	free(c);
}

/* --- bytes of pages --- */

static uint32_t page_rows(const struct parquet_leaf *c, uint32_t page)
{
	const struct parquet_location *at = &c->chunk->pages[page];
	return (page + 1 < c->chunk->npages ? at[1].first_row : (uint32_t)c->group->rows) - at->first_row;
}

/* The page that holds a row of the group; there are none before `from`. */
static uint32_t find_page(const struct parquet_leaf *c, uint32_t from, uint32_t row)
{
	const struct parquet_location *pages = c->chunk->pages;
	uint32_t low = from, high = c->chunk->npages; /* low's first row is not behind `row` */
	if (low + 1 < high && pages[low + 1].first_row > row)
		return low;
	while (high - low > 1) {
		uint32_t middle = low + (high - low) / 2;
		if (pages[middle].first_row <= row)
			low = middle;
		else
			high = middle;
	}
	return low;
}

/* The last page to be read together with `page`: they touch, and a row of each is wanted. */
static uint32_t last_page(const struct parquet_leaf *c, uint32_t page)
{
	const struct parquet_location *pages = c->chunk->pages;
	uint32_t last = page;
	for (size_t i = c->at; i < c->n && c->rows[i] < c->group->first_row + c->group->rows; i++) {
		uint32_t next = find_page(c, last, (uint32_t)(c->rows[i] - c->group->first_row));
		if (next == last)
			continue;
		int64_t bytes = pages[next].offset + pages[next].bytes - pages[page].offset;
		if (next != last + 1 || pages[next].offset != pages[last].offset + pages[last].bytes || bytes > WINDOW_BYTES)
			break;
		last = next;
	}
	return last;
}

/* The bytes of a page, header included, in the window. */
static int read_page(struct parquet_leaf *c, uint32_t page, const uint8_t **ret, struct duct_error *err)
{
	const struct parquet_location *at = &c->chunk->pages[page], *last;
	if (at->offset < c->window_at || at->offset + at->bytes > c->window_at + (int64_t)c->window_bytes) {
		last = &c->chunk->pages[last_page(c, page)];
		size_t n = (size_t)(last->offset + last->bytes - at->offset);
		c->window_bytes = 0;
		int rc = parquet_pread(c->file, reserve(&c->window, n), n, at->offset, err);
		if (rc)
			return rc;
		c->window_at = at->offset;
		c->window_bytes = n;
	}
	*ret = c->window.data + (at->offset - c->window_at);
	return 0;
}

/* n bytes of a page's body into raw_n; *ret points to them. */
static int unpack(struct parquet_leaf *c, const uint8_t *data, size_t n, int codec, size_t raw_n, struct space *space,
		  const uint8_t **ret, struct duct_error *err)
{
	if (codec == PARQUET_UNCOMPRESSED && n == raw_n) {
		*ret = data;
		return 0;
	}
	if (!parquet_codec_can(codec, data, n, raw_n))
		return duct_fail(err, DUCT_FATAL, "a page of %zu bytes cannot decompress to %zu", n, raw_n);
	*ret = reserve(space, raw_n + 1);
	return parquet_decompress(&c->file->reader->codecs, codec, data, n, space->data, raw_n, err);
}

/* Parses the header of a page that has `bytes` bytes in all, and proves its sum when it has one. */
static int open_page(const uint8_t *data, size_t bytes, struct parquet_page_head *head, struct duct_error *err)
{
	int rc = parquet_page_head_parse(head, data, bytes, err);
	if (rc < 0)
		return rc;
	if (rc == 0 || head->compressed_bytes > bytes - head->head_bytes)
		return duct_fail(err, DUCT_FATAL, "it is longer than its place");
	if (head->has_crc && crc32(0, data + head->head_bytes, head->compressed_bytes) != head->crc)
		return duct_fail(err, DUCT_FATAL, "its checksum is wrong");
	return 0;
}

/* --- dictionaries --- */

static int index_entries(struct parquet_leaf *c, struct duct_error *err)
{
	size_t left = (size_t)(c->entries_end - c->entries), at = 0;
	if (c->width && c->nentries <= left / c->width)
		return 0;
	if (c->width || c->node->type != PARQUET_BYTE_ARRAY || c->nentries > left / 4)
		return duct_fail(err, DUCT_FATAL, "%u values do not fit into its %zu bytes", c->nentries, left);
	c->entry_offsets = duct_grow(c->entry_offsets, &c->entry_offsets_cap, (size_t)c->nentries + 1, sizeof *c->entry_offsets);
	for (uint32_t i = 0; i < c->nentries; i++) {
		uint32_t n = 0;
		if (left - at >= 4)
			memcpy(&n, c->entries + at, 4);
		if (left - at < 4 || n > left - at - 4)
			return duct_fail(err, DUCT_FATAL, "its value %u is longer than the page", i);
		c->entry_offsets[i] = (uint32_t)at;
		at += 4 + (size_t)n;
	}
	return 0;
}

static int parse_dictionary(struct parquet_leaf *c, const uint8_t *bytes, size_t n, struct duct_error *err)
{
	struct parquet_page_head head;
	const uint8_t *raw;
	int rc = open_page(bytes, n, &head, err);
	if (rc)
		return rc;
	if (head.type != PARQUET_DICTIONARY_PAGE || (head.encoding != PARQUET_PLAIN && head.encoding != PARQUET_PLAIN_DICTIONARY))
		return duct_fail(err, DUCT_FATAL, "it is no dictionary");
	rc = unpack(c, bytes + head.head_bytes, head.compressed_bytes, c->chunk->codec, head.raw_bytes, &c->dictionary, &raw, err);
	if (rc)
		return rc;
	if (raw != c->dictionary.data)
		raw = memcpy(reserve(&c->dictionary, head.raw_bytes + (size_t)1), raw, head.raw_bytes);
	c->entries = raw;
	c->entries_end = raw + head.raw_bytes;
	c->nentries = head.nvalues;
	return index_entries(c, err);
}

/* What is before the first data page is the dictionary. */
static int load_dictionary(struct parquet_leaf *c, struct duct_error *err)
{
	int64_t n = c->chunk->pages[0].offset - c->start;
	if (c->has_dictionary)
		return 0;
	if (n <= 0 || n > PARQUET_MAX_PAGE_BYTES)
		return duct_fail(err, DUCT_FATAL, "it needs a dictionary, and the column has none");
	AUTO_FREE uint8_t *bytes = duct_xmalloc((size_t)n);
	int rc = parquet_pread(c->file, bytes, (size_t)n, c->start, err);
	if (!rc)
		rc = parse_dictionary(c, bytes, (size_t)n, err);
	if (rc)
		return duct_wrap(err, "dictionary at %" PRId64, c->start);
	c->has_dictionary = true;
	return 0;
}

/* --- data pages --- */

/* What a u32 length and its bytes take at *at; the hybrid over them. */
static bool take_sized(const uint8_t **at, const uint8_t *end, unsigned width, struct parquet_hybrid *ret)
{
	uint32_t n;
	if (end - *at < 4)
		return false;
	memcpy(&n, *at, 4);
	if (n > (size_t)(end - *at) - 4)
		return false;
	*ret = parquet_hybrid_over(*at + 4, n, width);
	*at += 4 + (size_t)n;
	return true;
}

/* Lengths come first, all of them; values_end stays, values moves behind them. */
static bool open_lengths(struct parquet_leaf *c)
{
	if (c->node->type != PARQUET_BYTE_ARRAY)
		return false;
	if (c->values == c->values_end)
		return true; /* NULLs only */
	if (!parquet_delta_open(&c->delta, c->values, (size_t)(c->values_end - c->values)))
		return false;
	struct parquet_delta to_end = c->delta;
	if (!parquet_delta_skip(&to_end, to_end.left))
		return false;
	c->values = to_end.at;
	return true;
}

static int open_values(struct parquet_leaf *c, const struct parquet_page_head *head, struct duct_error *err)
{
	bool good = true;
	c->encoding = head->encoding;
	c->next_bit = 0;
	c->delta = (struct parquet_delta){0};
	switch (head->encoding) {
	case PARQUET_PLAIN: break;
	case PARQUET_RLE: good = c->node->type == PARQUET_BOOLEAN && take_sized(&c->values, c->values_end, 1, &c->packed); break;
	case PARQUET_PLAIN_DICTIONARY:
	case PARQUET_RLE_DICTIONARY:
		c->encoding = PARQUET_RLE_DICTIONARY;
		c->packed = parquet_hybrid_over(c->values, 0, 1);
		if (c->values == c->values_end)
			break; /* NULLs only */
		good = *c->values <= 32;
		if (good) {
			c->packed = parquet_hybrid_over(c->values + 1, (size_t)(c->values_end - c->values) - 1, *c->values);
			return load_dictionary(c, err);
		}
		break;
	case PARQUET_DELTA_BINARY_PACKED:
		good = (c->node->type == PARQUET_INT32 || c->node->type == PARQUET_INT64) &&
			(c->values == c->values_end || /* NULLs only */
			 parquet_delta_open(&c->delta, c->values, (size_t)(c->values_end - c->values)));
		break;
	case PARQUET_DELTA_LENGTH_BYTE_ARRAY: good = open_lengths(c); break;
	default: good = false; break;
	}
	return good ? 0
		    : duct_fail(err, DUCT_FATAL, "its values in encoding %d are damaged, or the footer does not name it",
				head->encoding);
}

static unsigned level_width(unsigned most)
{
	return most ? 32 - (unsigned)__builtin_clz(most) : 0;
}

static int open_v1(struct parquet_leaf *c, const struct parquet_page_head *head, const uint8_t *body, struct duct_error *err)
{
	unsigned repetition = level_width(c->node->max_repetition), definition = level_width(c->node->max_definition);
	int rc = unpack(c, body, head->compressed_bytes, c->chunk->codec, head->raw_bytes, &c->raw, &c->values, err);
	if (rc)
		return rc;
	c->values_end = c->values + head->raw_bytes;
	bool good = !repetition || take_sized(&c->values, c->values_end, repetition, &c->repetitions);
	if (good && definition)
		good = head->definition_encoding == PARQUET_RLE &&
			take_sized(&c->values, c->values_end, definition, &c->definitions);
	return good ? 0 : duct_fail(err, DUCT_FATAL, "its levels are damaged");
}

/* Levels come before the compressed bytes. Both lengths together were held against the page's. */
static int open_v2(struct parquet_leaf *c, const struct parquet_page_head *head, const uint8_t *body, struct duct_error *err)
{
	size_t before = head->repetition_bytes + head->definition_bytes, raw_bytes = head->raw_bytes - before;
	int codec = head->is_compressed ? c->chunk->codec : PARQUET_UNCOMPRESSED;
	c->repetitions = parquet_hybrid_over(body, head->repetition_bytes, level_width(c->node->max_repetition));
	c->definitions =
		parquet_hybrid_over(body + head->repetition_bytes, head->definition_bytes, level_width(c->node->max_definition));
	int rc = unpack(c, body + before, head->compressed_bytes - before, codec, raw_bytes, &c->raw, &c->values, err);
	if (!rc)
		c->values_end = c->values + raw_bytes;
	return rc;
}

/* A page of one enormous value is not held twice while the value is copied. */
static void give_back_window(struct parquet_leaf *c)
{
	if (c->window.cap <= KEPT_BYTES)
		return;
	free(c->window.data);
	c->window = (struct space){0};
	c->window_bytes = 0;
}

static int open_data_page(struct parquet_leaf *c, uint32_t page, struct duct_error *err)
{
	const struct parquet_location *at = &c->chunk->pages[page];
	struct parquet_page_head head;
	const uint8_t *bytes = NULL;
	c->page = UINT32_MAX;
	int rc = read_page(c, page, &bytes, err);
	if (!rc)
		rc = open_page(bytes, at->bytes, &head, err);
	if (rc)
		return duct_wrap(err, "page at %" PRId64, at->offset);
	bool data = head.type == PARQUET_DATA_PAGE || head.type == PARQUET_DATA_PAGE_V2;
	if (!data || (!c->node->max_repetition && head.nvalues != page_rows(c, page)))
		return duct_fail(err, DUCT_FATAL, "page at %" PRId64 " is no data page, or does not hold %u rows", at->offset,
				 page_rows(c, page));
	bytes += head.head_bytes;
	c->file->reader->counts.pages++;
	rc = head.type == PARQUET_DATA_PAGE ? open_v1(c, &head, bytes, err) : open_v2(c, &head, bytes, err);
	if (!rc)
		rc = open_values(c, &head, err);
	if (rc)
		return duct_wrap(err, "page at %" PRId64, at->offset);
	if (head.type == PARQUET_DATA_PAGE && c->chunk->codec != PARQUET_UNCOMPRESSED)
		give_back_window(c); /* nothing points into it */
	c->page = page;
	c->page_row = 0;
	c->left = head.nvalues;
	c->has_ahead = false;
	return 0;
}

/* --- values --- */

/* The next value of plain bytes. */
static bool take_plain(const uint8_t **at, const uint8_t *end, uint32_t width, struct duct_cell *ret)
{
	uint32_t n = width;
	if (!width) {
		if (end - *at < 4)
			return false;
		memcpy(&n, *at, 4);
		*at += 4;
	}
	if (n > (size_t)(end - *at))
		return false;
	*ret = (struct duct_cell){(const char *)*at, n};
	*at += n;
	return true;
}

static bool take_by_length(struct parquet_leaf *c, struct duct_cell *ret)
{
	uint64_t n;
	if (!parquet_delta_get(&c->delta, &n) || (uint32_t)n > (size_t)(c->values_end - c->values))
		return false;
	*ret = (struct duct_cell){(const char *)c->values, (uint32_t)n};
	c->values += ret->len;
	return true;
}

static bool skip_values(struct parquet_leaf *c, uint64_t n)
{
	struct duct_cell cell;
	if (c->encoding == PARQUET_DELTA_LENGTH_BYTE_ARRAY) {
		while (n && take_by_length(c, &cell))
			n--;
		return !n;
	}
	if (c->encoding == PARQUET_DELTA_BINARY_PACKED)
		return parquet_delta_skip(&c->delta, n);
	if (c->encoding != PARQUET_PLAIN)
		return parquet_hybrid_skip(&c->packed, n, 0, NULL);
	if (c->node->type == PARQUET_BOOLEAN) {
		c->next_bit += n;
		return true;
	}
	if (c->width) {
		if (n > (size_t)(c->values_end - c->values) / c->width)
			return false;
		c->values += n * c->width;
		return true;
	}
	for (; n; n--)
		if (!take_plain(&c->values, c->values_end, 0, &cell))
			return false;
	return true;
}

static bool take_boolean(struct parquet_leaf *c, struct duct_cell *ret)
{
	uint32_t v = 0;
	if (c->encoding == PARQUET_RLE) {
		if (!parquet_hybrid_get(&c->packed, &v))
			return false;
	} else {
		if (c->next_bit / 8 >= (size_t)(c->values_end - c->values))
			return false;
		v = c->values[c->next_bit / 8] >> (c->next_bit % 8) & 1;
		c->next_bit++;
	}
	c->scratch[0] = (char)v;
	*ret = (struct duct_cell){c->scratch, 1};
	return true;
}

static bool take_from_dictionary(struct parquet_leaf *c, struct duct_cell *ret)
{
	uint32_t i;
	if (!parquet_hybrid_get(&c->packed, &i) || i >= c->nentries)
		return false;
	const uint8_t *at = c->entries + (c->width ? (size_t)i * c->width : c->entry_offsets[i]);
	return take_plain(&at, c->entries_end, c->width, ret);
}

/* Decimals are 4 or 8 bytes, or 1 to 16 with the highest first; ours are 8 or 16. */
static bool convert_decimal(struct parquet_leaf *c, struct duct_cell *cell)
{
	__extension__ __int128 v;
	if (c->node->type == PARQUET_INT32) {
		int32_t narrow;
		memcpy(&narrow, cell->data, 4);
		v = narrow;
	} else if (c->node->type == PARQUET_INT64) {
		int64_t narrow;
		memcpy(&narrow, cell->data, 8);
		v = narrow;
	} else {
		__extension__ unsigned __int128 bits = cell->data[0] & 0x80 ? ~(__extension__(unsigned __int128) 0) : 0;
		for (uint32_t i = 0; i < cell->len; i++)
			bits = bits << 8 | (uint8_t)cell->data[i];
		memcpy(&v, &bits, sizeof v);
	}
	uint32_t width = duct_type_width(&c->node->value);
	int64_t low = (int64_t)v;
	memcpy(c->scratch, &v, sizeof v);
	*cell = (struct duct_cell){c->scratch, width};
	return width == 16 || low == v;
}

/* From the file's form to ours. Narrow integers are the low bytes of 4. */
static bool convert(struct parquet_leaf *c, struct duct_cell *cell)
{
	switch (c->node->value.kind) {
	case DUCT_DECIMAL: return convert_decimal(c, cell);
	case DUCT_VARCHAR:
	case DUCT_JSON: return duct_utf8_valid(cell->data, cell->len);
	case DUCT_BLOB: return true;
	default: cell->len = duct_type_width(&c->node->value); return true;
	}
}

static bool take_delta(struct parquet_leaf *c, struct duct_cell *ret)
{
	uint64_t v;
	if (!parquet_delta_get(&c->delta, &v))
		return false;
	memcpy(c->scratch, &v, sizeof v);
	*ret = (struct duct_cell){c->scratch, c->width};
	return true;
}

static bool take_value(struct parquet_leaf *c, struct duct_cell *ret)
{
	if (c->encoding == PARQUET_RLE_DICTIONARY)
		return take_from_dictionary(c, ret) && convert(c, ret);
	if (c->encoding == PARQUET_DELTA_BINARY_PACKED)
		return take_delta(c, ret) && convert(c, ret);
	if (c->encoding == PARQUET_DELTA_LENGTH_BYTE_ARRAY)
		return take_by_length(c, ret) && convert(c, ret);
	if (c->node->type == PARQUET_BOOLEAN)
		return take_boolean(c, ret);
	return take_plain(&c->values, c->values_end, c->width, ret) && convert(c, ret);
}

/* --- rows --- */

static bool take_entry(struct parquet_leaf *c, uint32_t definition, uint32_t repetition)
{
	struct duct_cell cell = {NULL, 0};
	if (c->ntaken >= MAX_ENTRIES)
		return false;
	c->taken = duct_grow(c->taken, &c->taken_cap, c->ntaken + 1, sizeof *c->taken);
	struct parquet_entry *e = &c->taken[c->ntaken++];
	e->definition = (uint8_t)definition;
	e->repetition = (uint8_t)repetition;
	if (definition == c->node->max_definition && !take_value(c, &cell))
		return false;
	e->data = cell.data;
	e->len = cell.len;
	if (cell.data == c->scratch) {
		memcpy(e->own, c->scratch, sizeof e->own);
		e->data = NULL;
	}
	return true;
}

/* Row `row` of the open page, of a leaf that has one entry a row; none at or behind it was taken. */
static bool take_single(struct parquet_leaf *c, uint32_t row)
{
	uint64_t skip = row - c->page_row;
	uint32_t most = c->node->max_definition, definition = 0;
	if (most && (!parquet_hybrid_skip(&c->definitions, skip, most, &skip) || !parquet_hybrid_get(&c->definitions, &definition)))
		return false;
	c->page_row = row + 1;
	return definition <= most && skip_values(c, skip) && take_entry(c, definition, 0);
}

/* The next row of a repeated leaf, kept or passed over: its first entry has level 0, the others have not. */
static bool take_next_repeated(struct parquet_leaf *c, bool keep)
{
	uint32_t most = c->node->max_definition, definition;
	uint64_t skip = 0;
	for (bool first = true;; first = false) {
		if (!c->left)
			return !first && skip_values(c, skip);
		if (!c->has_ahead && !parquet_hybrid_get(&c->repetitions, &c->ahead))
			return false;
		c->has_ahead = true;
		if (!first && !c->ahead)
			return skip_values(c, skip);
		if ((first && c->ahead) || c->ahead > c->node->max_repetition)
			return false;
		c->has_ahead = false;
		c->left--;
		if (!parquet_hybrid_get(&c->definitions, &definition) || definition > most)
			return false;
		if (keep && !take_entry(c, definition, c->ahead))
			return false;
		skip += !keep && definition == most;
	}
}

static bool take_repeated(struct parquet_leaf *c, uint32_t row)
{
	for (; c->page_row < row; c->page_row++)
		if (!take_next_repeated(c, false))
			return false;
	c->page_row++;
	return take_next_repeated(c, true);
}

static int enter_group(struct parquet_leaf *c, int64_t row, struct duct_error *err)
{
	int64_t end;
	c->group = find_group(c->file->footer, c->group, row);
	c->chunk = &c->group->chunks[c->node->leaf];
	c->page = UINT32_MAX;
	c->has_dictionary = false;
	int rc = parquet_chunk_span(c->file, c->chunk, &c->start, &end, err);
	return rc ? rc : parquet_chunk_locate(c->file, c->group, c->chunk, err);
}

int parquet_leaf_next(struct parquet_leaf *c, const struct parquet_entry **ret, size_t *ret_n, struct duct_error *err)
{
	int64_t row = c->rows[c->at];
	int rc = 0;
	if (!c->group || row >= c->group->first_row + c->group->rows)
		rc = enter_group(c, row, err);
	if (rc)
		return rc;
	uint32_t in_group = (uint32_t)(row - c->group->first_row);
	uint32_t page = find_page(c, c->page == UINT32_MAX ? 0 : c->page, in_group);
	if (page != c->page)
		rc = open_data_page(c, page, err);
	if (rc)
		return rc;
	uint32_t in_page = in_group - c->chunk->pages[page].first_row;
	c->ntaken = 0;
	if (!(c->node->max_repetition ? take_repeated(c, in_page) : take_single(c, in_page)))
		return duct_fail(err, DUCT_FATAL, "page at %" PRId64 ": its values are damaged before row %" PRId64,
				 c->chunk->pages[page].offset, row);
	c->at++;
	*ret = c->taken;
	*ret_n = c->ntaken;
	return 0;
}
