#include <ctype.h>
#include <errno.h>
#include <float.h>
#include <google/protobuf/timestamp.pb-c.h>
#include <math.h>
#include <stdio.h>
#include <time.h>

#include "api/json.h"
#include "base/base64.h"
#include "base/utf8.h"
#include "options/options.h"

/* One text on its way into a message: where we are in it, and what was wrong so far. */
struct reader {
	struct duct_arena *arena;
	struct duct_buf path, findings;
	int nfindings;
};

enum { MOST_FINDINGS = 20 };

static void find(struct reader *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static bool read_message(struct reader *r, const ProtobufCMessageDescriptor *d, json_t *from, ProtobufCMessage **ret);

static void find(struct reader *r, const char *fmt, ...)
{
	if (++r->nfindings > MOST_FINDINGS)
		return;
	char text[512];
	va_list args;
	va_start(args, fmt);
	vsnprintf(text, sizeof text, fmt, args);
	va_end(args);
	duct_buf_printf(&r->findings, "%s%s%s%s", r->nfindings > 1 ? "; " : "", r->path.len ? r->path.data : "",
			r->path.len ? ": " : "", text);
}

/* Names from outside go into messages with what cannot be printed replaced, and not without end. */
static void put_name(struct duct_buf *to, const char *name)
{
	size_t n = 0;
	for (; name[n] && n < 64; n++)
		duct_buf_putc(to, iscntrl((unsigned char)name[n]) ? '?' : name[n]);
	if (name[n])
		duct_buf_puts(to, "...");
}

/* Goes down into a field; the length before is given back for climb(). */
static size_t descend(struct reader *r, const char *name)
{
	size_t before = r->path.len;
	if (before)
		duct_buf_putc(&r->path, '.');
	put_name(&r->path, name);
	return before;
}

static size_t descend_index(struct reader *r, size_t i)
{
	size_t before = r->path.len;
	duct_buf_printf(&r->path, "[%zu]", i);
	return before;
}

static size_t descend_key(struct reader *r, const char *key)
{
	size_t before = r->path.len;
	duct_buf_puts(&r->path, "[\"");
	put_name(&r->path, key);
	duct_buf_puts(&r->path, "\"]");
	return before;
}

static void climb(struct reader *r, size_t before)
{
	r->path.len = before;
	if (r->path.data)
		r->path.data[before] = 0;
}

static const char *kind_of(const json_t *v)
{
	switch (json_typeof(v)) {
	case JSON_OBJECT: return "an object";
	case JSON_ARRAY: return "a list";
	case JSON_STRING: return "a string";
	case JSON_INTEGER:
	case JSON_REAL: return "a number";
	case JSON_TRUE:
	case JSON_FALSE: return "true or false";
	default: return "null";
	}
}

static bool wrong_kind(struct reader *r, const char *wanted, const json_t *got)
{
	find(r, "%s is wanted here, not %s", wanted, kind_of(got));
	return false;
}

/* ---- scalars */

/* Decimal digits with a sign at most, as a whole. */
static bool parse_integer(const char *text, int64_t *ret, uint64_t *ret_unsigned, bool is_signed)
{
	const char *digits = text + (*text == '-');
	if (!*digits || strspn(digits, "0123456789") != strlen(digits))
		return false;
	char *end;
	errno = 0;
	if (is_signed)
		*ret = strtoll(text, &end, 10);
	else if (*text == '-')
		return strspn(digits, "0") == strlen(digits) && (*ret_unsigned = 0, true);
	else
		*ret_unsigned = strtoull(text, &end, 10);
	return errno == 0;
}

static bool read_signed(struct reader *r, json_t *v, int bits, int64_t *ret)
{
	const double limit = bits == 32 ? 2147483648.0 : 9223372036854775808.0;
	int64_t n = 0;
	uint64_t unused;
	bool fits = true;
	if (json_is_integer(v))
		n = json_integer_value(v);
	else if (json_is_real(v)) {
		double d = json_real_value(v);
		fits = d == floor(d) && d >= -limit && d < limit;
		n = fits ? (int64_t)d : 0;
	} else if (json_is_string(v))
		fits = strlen(json_string_value(v)) == json_string_length(v) &&
			parse_integer(json_string_value(v), &n, &unused, true);
	else
		return wrong_kind(r, "a whole number", v);
	if (!fits || (bits == 32 && (n < INT32_MIN || n > INT32_MAX))) {
		find(r, "a whole number of %d bits is wanted here", bits);
		return false;
	}
	*ret = n;
	return true;
}

static bool read_unsigned(struct reader *r, json_t *v, int bits, uint64_t *ret)
{
	const double limit = bits == 32 ? 4294967296.0 : 18446744073709551616.0;
	uint64_t n = 0;
	int64_t unused;
	bool fits = true;
	if (json_is_integer(v)) {
		fits = json_integer_value(v) >= 0;
		n = (uint64_t)json_integer_value(v);
	} else if (json_is_real(v)) {
		double d = json_real_value(v);
		fits = d == floor(d) && d >= 0 && d < limit;
		n = fits ? (uint64_t)d : 0;
	} else if (json_is_string(v))
		fits = strlen(json_string_value(v)) == json_string_length(v) &&
			parse_integer(json_string_value(v), &unused, &n, false);
	else
		return wrong_kind(r, "a whole number", v);
	if (!fits || (bits == 32 && n > UINT32_MAX)) {
		find(r, "a whole number of %d bits, 0 or more, is wanted here", bits);
		return false;
	}
	*ret = n;
	return true;
}

static bool read_double(struct reader *r, json_t *v, bool single, double *ret)
{
	double d;
	if (json_is_number(v))
		d = json_number_value(v);
	else if (json_is_string(v)) {
		const char *text = json_string_value(v);
		char *end;
		if (strcmp(text, "NaN") == 0)
			d = NAN;
		else if (strcmp(text, "Infinity") == 0 || strcmp(text, "-Infinity") == 0)
			d = *text == '-' ? -INFINITY : INFINITY;
		else {
			d = strtod(text, &end);
			if (end == text || (size_t)(end - text) != json_string_length(v) ||
			    strspn(text, "+-.0123456789eE") != strlen(text) || isinf(d)) {
				find(r, "a number, \"NaN\", \"Infinity\" or \"-Infinity\" is wanted here");
				return false;
			}
		}
	} else
		return wrong_kind(r, "a number", v);
	/* What rounds to the largest single is still one; half a unit in the last place above it is not. */
	if (single && !isinf(d) && isinf((float)d)) {
		find(r, "the number is too large for 32 bits");
		return false;
	}
	*ret = d;
	return true;
}

static bool read_enum(struct reader *r, const ProtobufCEnumDescriptor *d, json_t *v, int *ret)
{
	int64_t number;
	if (json_is_number(v)) {
		if (!read_signed(r, v, 32, &number))
			return false;
		*ret = (int)number;
		return true;
	}
	if (!json_is_string(v))
		return wrong_kind(r, "a name", v);
	const char *text = json_string_value(v);
	size_t prefix = api_json_enum_prefix(d);
	char known[300] = "";
	size_t used = 0;
	for (unsigned i = 0; i < d->n_value_names; i++) {
		const char *name = d->values_by_name[i].name;
		if (strcmp(name, text) == 0) {
			*ret = d->values[d->values_by_name[i].index].value;
			return true;
		}
		if (!prefix)
			continue;
		char small[64];
		size_t n = 0;
		for (; name[prefix + n] && n < sizeof small - 1; n++)
			small[n] = (char)tolower((unsigned char)name[prefix + n]);
		small[n] = 0;
		if (strcmp(small, text) == 0) {
			*ret = d->values[d->values_by_name[i].index].value;
			return true;
		}
		int room = snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "", small);
		used += room > 0 && (size_t)room < sizeof known - used ? (size_t)room : 0;
	}
	known[used] = 0;
	find(r, "there is no such %s%s%s", d->short_name, used ? "; there are " : "", known);
	return false;
}

static bool read_string(struct reader *r, json_t *v, char **ret)
{
	if (!json_is_string(v))
		return wrong_kind(r, "a string", v);
	if (strlen(json_string_value(v)) != json_string_length(v)) {
		find(r, "a string must not hold a NUL");
		return false;
	}
	*ret = duct_arena_dup(r->arena, json_string_value(v), json_string_length(v) + 1);
	return true;
}

static bool read_bytes(struct reader *r, json_t *v, ProtobufCBinaryData *ret)
{
	if (!json_is_string(v))
		return wrong_kind(r, "bytes in base64", v);
	size_t n = json_string_length(v);
	uint8_t *data = duct_arena_alloc(r->arena, n / 4 * 3 + 3);
	if (!duct_base64_decode(json_string_value(v), n, data, &ret->len)) {
		find(r, "this is not base64");
		return false;
	}
	ret->data = data;
	return true;
}

/* ---- 2025-01-01T00:00:00.5Z, 2025-01-01T01:00:00+01:00 (RFC 3339) */

/* n digits at *at, which moves behind them. */
static bool take_digits(const char **at, int n, int least, int most, int *ret)
{
	int v = 0;
	for (int i = 0; i < n; i++, (*at)++) {
		if (!isdigit((unsigned char)**at))
			return false;
		v = v * 10 + (**at - '0');
	}
	*ret = v;
	return v >= least && v <= most;
}

static bool take_char(const char **at, char c)
{
	return *(*at)++ == c;
}

static bool take_fraction(const char **at, int *ret)
{
	int digits = 0;
	*ret = 0;
	if (**at != '.')
		return true;
	for ((*at)++; isdigit((unsigned char)**at); (*at)++, digits++)
		if (digits < 9)
			*ret = *ret * 10 + (**at - '0');
	if (digits == 0 || digits > 9)
		return false;
	for (; digits < 9; digits++)
		*ret *= 10;
	return true;
}

static bool take_zone(const char **at, int *ret_seconds)
{
	char sign = *(*at)++;
	int hours, minutes;
	*ret_seconds = 0;
	if (sign == 'Z' || sign == 'z')
		return true;
	if ((sign != '+' && sign != '-') || !take_digits(at, 2, 0, 23, &hours) || !take_char(at, ':') ||
	    !take_digits(at, 2, 0, 59, &minutes))
		return false;
	*ret_seconds = (sign == '-' ? -1 : 1) * (hours * 3600 + minutes * 60);
	return true;
}

static bool parse_timestamp(const char *text, int64_t *ret_seconds, int *ret_nanos)
{
	struct tm tm = {0};
	int year, month, zone;
	if (!take_digits(&text, 4, 1, 9999, &year) || !take_char(&text, '-') || !take_digits(&text, 2, 1, 12, &month) ||
	    !take_char(&text, '-') || !take_digits(&text, 2, 1, 31, &tm.tm_mday) || (*text != 'T' && *text != 't'))
		return false;
	text++;
	if (!take_digits(&text, 2, 0, 23, &tm.tm_hour) || !take_char(&text, ':') || !take_digits(&text, 2, 0, 59, &tm.tm_min) ||
	    !take_char(&text, ':') || !take_digits(&text, 2, 0, 59, &tm.tm_sec) || !take_fraction(&text, ret_nanos) ||
	    !take_zone(&text, &zone) || *text)
		return false;
	tm.tm_year = year - 1900;
	tm.tm_mon = month - 1;
	int day = tm.tm_mday;
	time_t t = timegm(&tm);
	if (tm.tm_mday != day) /* the 31st of February */
		return false;
	*ret_seconds = (int64_t)t - zone;
	return *ret_seconds >= -62135596800 && *ret_seconds <= 253402300799;
}

static bool read_timestamp(struct reader *r, json_t *v, Google__Protobuf__Timestamp *to)
{
	if (!json_is_string(v))
		return wrong_kind(r, "a time such as \"2025-01-01T00:00:00Z\"", v);
	int64_t seconds;
	int nanos;
	if (strlen(json_string_value(v)) != json_string_length(v) || !parse_timestamp(json_string_value(v), &seconds, &nanos)) {
		find(r, "a time such as \"2025-01-01T00:00:00Z\" is wanted here (RFC 3339)");
		return false;
	}
	to->seconds = seconds;
	to->nanos = nanos;
	return true;
}

/* ---- fields */

/* Puts one value where an element of the field's type lies. */
static bool read_value(struct reader *r, const ProtobufCFieldDescriptor *f, json_t *v, void *at)
{
	int64_t n;
	uint64_t u;
	double d;
	switch (f->type) {
	case PROTOBUF_C_TYPE_INT32:
	case PROTOBUF_C_TYPE_SINT32:
	case PROTOBUF_C_TYPE_SFIXED32: return read_signed(r, v, 32, &n) && (*(int32_t *)at = (int32_t)n, true);
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_SINT64:
	case PROTOBUF_C_TYPE_SFIXED64: return read_signed(r, v, 64, at);
	case PROTOBUF_C_TYPE_UINT32:
	case PROTOBUF_C_TYPE_FIXED32: return read_unsigned(r, v, 32, &u) && (*(uint32_t *)at = (uint32_t)u, true);
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_FIXED64: return read_unsigned(r, v, 64, at);
	case PROTOBUF_C_TYPE_FLOAT: return read_double(r, v, true, &d) && (*(float *)at = (float)d, true);
	case PROTOBUF_C_TYPE_DOUBLE: return read_double(r, v, false, at);
	case PROTOBUF_C_TYPE_BOOL:
		if (!json_is_boolean(v))
			return wrong_kind(r, "true or false", v);
		*(protobuf_c_boolean *)at = json_is_true(v);
		return true;
	case PROTOBUF_C_TYPE_ENUM: return read_enum(r, f->descriptor, v, at);
	case PROTOBUF_C_TYPE_STRING: return read_string(r, v, at);
	case PROTOBUF_C_TYPE_BYTES: return read_bytes(r, v, at);
	case PROTOBUF_C_TYPE_MESSAGE: return read_message(r, f->descriptor, v, at);
	}
	return false;
}

static void *member(ProtobufCMessage *message, size_t offset)
{
	return (char *)message + offset;
}

static void read_list(struct reader *r, const ProtobufCFieldDescriptor *f, json_t *v, ProtobufCMessage *to)
{
	if (!json_is_array(v)) {
		wrong_kind(r, "a list", v);
		return;
	}
	size_t n = json_array_size(v), size = api_json_element_size(f->type);
	if (n == 0)
		return;
	char *elements = duct_arena_zalloc(r->arena, n * size);
	for (size_t i = 0; i < n; i++) {
		size_t before = descend_index(r, i);
		if (json_is_null(json_array_get(v, i)))
			find(r, "null is no element of a list");
		else
			read_value(r, f, json_array_get(v, i), elements + i * size);
		climb(r, before);
	}
	*(size_t *)member(to, f->quantifier_offset) = n;
	*(void **)member(to, f->offset) = elements;
}

/* A map's key is text in JSON, whatever it is in the message. */
static bool read_key(struct reader *r, const ProtobufCFieldDescriptor *f, const char *key, void *at)
{
	if (f->type == PROTOBUF_C_TYPE_BOOL) {
		if (strcmp(key, "true") != 0 && strcmp(key, "false") != 0) {
			find(r, "the key must be \"true\" or \"false\"");
			return false;
		}
		*(protobuf_c_boolean *)at = *key == 't';
		return true;
	}
	json_t *text = json_string(key);
	bool ok = text && read_value(r, f, text, at);
	json_decref(text);
	return ok;
}

static void read_map(struct reader *r, const ProtobufCFieldDescriptor *f, json_t *v, ProtobufCMessage *to)
{
	if (!json_is_object(v)) {
		wrong_kind(r, "an object", v);
		return;
	}
	const ProtobufCMessageDescriptor *d = f->descriptor;
	ProtobufCMessage **entries = duct_arena_zalloc(r->arena, (json_object_size(v) + 1) * sizeof(ProtobufCMessage *));
	size_t n = 0;
	const char *key;
	json_t *value;
	json_object_foreach(v, key, value)
	{
		size_t before = descend_key(r, key);
		ProtobufCMessage *entry = duct_arena_alloc(r->arena, d->sizeof_message);
		protobuf_c_message_init(d, entry);
		if (json_is_null(value))
			find(r, "null is no value of a map");
		else if (read_key(r, &d->fields[0], key, member(entry, d->fields[0].offset)) &&
			 read_value(r, &d->fields[1], value, member(entry, d->fields[1].offset)))
			entries[n++] = entry;
		climb(r, before);
	}
	if (n) {
		*(size_t *)member(to, f->quantifier_offset) = n;
		*(void **)member(to, f->offset) = entries;
	}
}

static void read_field(struct reader *r, const ProtobufCFieldDescriptor *f, json_t *v, ProtobufCMessage *to)
{
	if (f->label == PROTOBUF_C_LABEL_REPEATED) {
		if (api_json_is_map(to->descriptor, f))
			read_map(r, f, v, to);
		else
			read_list(r, f, v, to);
		return;
	}
	bool oneof = f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF;
	if (oneof && *(uint32_t *)member(to, f->quantifier_offset)) {
		find(r, "only one field of its group may be given");
		return;
	}
	if (!read_value(r, f, v, member(to, f->offset)))
		return;
	if (oneof)
		*(uint32_t *)member(to, f->quantifier_offset) = f->id;
	else if (f->label == PROTOBUF_C_LABEL_OPTIONAL && f->type != PROTOBUF_C_TYPE_STRING && f->type != PROTOBUF_C_TYPE_MESSAGE)
		*(protobuf_c_boolean *)member(to, f->quantifier_offset) = true;
}

/* The nearest name, spelled as the caller spells. */
static void find_unknown(struct reader *r, const ProtobufCMessageDescriptor *d, const char *name)
{
	bool proto_names = strchr(name, '_') != NULL;
	const char **names = duct_arena_zalloc(r->arena, (d->n_fields + 1) * sizeof(const char *));
	for (unsigned i = 0; i < d->n_fields; i++) {
		struct duct_buf camel = {0};
		api_json_camel(&camel, d->fields[i].name);
		names[i] = proto_names ? d->fields[i].name : duct_arena_strdup(r->arena, camel.data);
		duct_buf_done(&camel);
	}
	const char *near = duct_nearest(name, names);
	if (near)
		find(r, "there is no such field, did you mean \"%s\"?", near);
	else
		find(r, "there is no such field");
}

static void read_fields(struct reader *r, ProtobufCMessage *to, json_t *from)
{
	const ProtobufCMessageDescriptor *d = to->descriptor;
	bool *seen = duct_arena_zalloc(r->arena, d->n_fields + 1);
	const char *key;
	json_t *value;
	json_object_foreach(from, key, value)
	{
		const ProtobufCFieldDescriptor *f = api_json_field(d, key, strlen(key));
		size_t before = descend(r, key);
		if (!f)
			find_unknown(r, d, key);
		else if (seen[f - d->fields])
			find(r, "given twice, in both spellings");
		else if (!json_is_null(value))
			read_field(r, f, value, to);
		if (f)
			seen[f - d->fields] = true;
		climb(r, before);
	}
}

static bool read_message(struct reader *r, const ProtobufCMessageDescriptor *d, json_t *from, ProtobufCMessage **ret)
{
	ProtobufCMessage *message = duct_arena_alloc(r->arena, d->sizeof_message);
	protobuf_c_message_init(d, message);
	*ret = message;
	if (d == &google__protobuf__timestamp__descriptor)
		return read_timestamp(r, from, (Google__Protobuf__Timestamp *)message);
	if (!json_is_object(from))
		return wrong_kind(r, "an object", from);
	read_fields(r, message, from);
	return true;
}

/* ---- the text */

/* Depth and number of values before anything is allocated for them: an empty object of two bytes costs some 200 in memory. */
static int measure(const char *text, size_t n, struct duct_error *err)
{
	size_t depth = 0, values = 0;
	bool inside = false;
	for (size_t i = 0; i < n; i++) {
		char c = text[i];
		if (inside) {
			if (c == '\\')
				i++;
			else if (c == '"')
				inside = false;
			continue;
		}
		inside = c == '"';
		values += c == ',' || c == '{' || c == '[';
		if ((c == '{' || c == '[') && ++depth > API_JSON_DEPTH)
			return duct_fail(err, DUCT_CONFIG, "more than %d objects and lists inside each other", API_JSON_DEPTH);
		depth -= (c == '}' || c == ']') && depth > 0;
	}
	if (values > API_JSON_VALUES)
		return duct_fail(err, DUCT_CONFIG, "more than %d values", API_JSON_VALUES);
	return 0;
}

int api_json_parse(json_t **ret, const char *text, size_t n, struct duct_error *err)
{
	if (measure(text, n, err))
		return -err->class;
	if (!duct_utf8_valid(text, n))
		return duct_fail(err, DUCT_CONFIG, "the text is not UTF-8");
	json_error_t why;
	json_t *root = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);
	if (!root) {
		/* What follows is a piece of the text, which may be a secret. */
		char *piece = strstr(why.text, " near '");
		if (piece)
			*piece = 0;
		return duct_fail(err, DUCT_CONFIG, "not JSON: line %d, column %d: %s", why.line, why.column, why.text);
	}
	*ret = root;
	return 0;
}

int api_json_read_parsed(ProtobufCMessage **ret, const ProtobufCMessageDescriptor *d, struct duct_arena *arena, json_t *from,
			 struct duct_error *err)
{
	struct reader r = {.arena = arena};
	ProtobufCMessage *message = NULL;
	read_message(&r, d, from, &message);
	int rc = 0;
	if (r.nfindings > MOST_FINDINGS)
		rc = duct_fail(err, DUCT_CONFIG, "%s; and %d more", r.findings.data, r.nfindings - MOST_FINDINGS);
	else if (r.nfindings > 0)
		rc = duct_fail(err, DUCT_CONFIG, "%s", r.findings.data);
	else
		*ret = message;
	duct_buf_done(&r.path);
	duct_buf_done(&r.findings);
	return rc;
}

int api_json_read(ProtobufCMessage **ret, const ProtobufCMessageDescriptor *d, struct duct_arena *arena, const char *text, size_t n,
		  struct duct_error *err)
{
	json_t *root;
	if (api_json_parse(&root, text, n, err))
		return -err->class;
	int rc = api_json_read_parsed(ret, d, arena, root, err);
	json_decref(root);
	return rc;
}
