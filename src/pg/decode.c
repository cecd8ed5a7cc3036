/* Decoding of one value, and the hot path into a vector: see types.h. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "pg/fast.h"

int pg_bad_value(struct duct_error *err, const struct pg_mapping *m, const char *fmt, ...)
{
	char text[600];
	va_list args;
	va_start(args, fmt);
	(void)vsnprintf(text, sizeof text, fmt, args);
	va_end(args);
	return duct_fail(err, DUCT_DATA, "type %s: %s", m->type_name, text);
}

int pg_bad_dims(struct duct_error *err, const struct pg_mapping *m, int found)
{
	return pg_bad_value(err, m,
			    "the value has %d dimension%s, %d %s declared: declare the column with as many [] as its values have",
			    found, found == 1 ? "" : "s", m->ndims, m->ndims == 1 ? "is" : "are");
}

int pg_decode(const struct pg_mapping *m, char format, const char *data, size_t len, struct duct_buf *to, struct duct_error *err)
{
	if (format == 'b')
		return pg_decode_binary(m, data, len, to, err);
	return pg_decode_text(m, data, len, to, err);
}

static int put_value(const struct pg_mapping *m, char format, const char *data, size_t len, struct duct_buf *to,
		     struct duct_error *err)
{
	if (m->width)
		return pg_decode(m, format, data, len, to, err);
	size_t at = to->len;
	pg_put_u32(to, 0);
	int rc = pg_decode(m, format, data, len, to, err);
	pg_patch_u32(to, at, (uint32_t)(to->len - at - 4));
	return rc;
}

int pg_put_item(const struct pg_mapping *m, char format, const char *data, size_t len, struct duct_buf *to, struct duct_error *err)
{
	duct_buf_putc(to, data != NULL);
	return data ? put_value(m, format, data, len, to, err) : 0;
}

static int append_composed(const struct pg_mapping *m, char format, const char *data, size_t len, struct duct_batch *b,
			   struct duct_vector *v, struct duct_buf *scratch, struct duct_error *err)
{
	scratch->len = 0;
	int rc = pg_decode(m, format, data, len, scratch, err);
	if (rc < 0)
		return rc;
	void *to = duct_vector_append(b, v, (uint32_t)scratch->len);
	if (scratch->len)
		memcpy(to, scratch->data, scratch->len);
	return 0;
}

int pg_decode_into(const struct pg_mapping *m, char format, const char *data, size_t len, struct duct_batch *b,
		   struct duct_vector *v, struct duct_buf *scratch, struct duct_error *err)
{
	if (format == 'b' && pg_append_fast(m, data, len, b, v))
		return 0;
	return append_composed(m, format, data, len, b, v, scratch, err);
}
