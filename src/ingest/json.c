/* JSON text to nodes, and paths into them: see json.h. */
#include "ingest/json.h"

#include <string.h>

#include "base/hex.h"
#include "base/utf8.h"

struct parse {
	struct json_doc *doc;
	const char *text, *at, *end;
	uint32_t open[JSON_MOST_DEPTH]; /* containers that are not closed */
	int depth;
};

static int fail_at(const struct parse *p, struct duct_error *err, const char *what)
{
	return duct_fail(err, DUCT_DATA, "not valid JSON at byte %zu: %s", (size_t)(p->at - p->text), what);
}

static void skip_blanks(struct parse *p)
{
	while (p->at < p->end && (*p->at == ' ' || *p->at == '\n' || *p->at == '\r' || *p->at == '\t'))
		p->at++;
}

static struct json_node *add_node(struct parse *p, enum json_kind kind)
{
	struct json_doc *doc = p->doc;
	if (doc->n == doc->cap)
		doc->nodes = duct_grow(doc->nodes, &doc->cap, doc->n + 1, sizeof *doc->nodes);
	struct json_node *node = &doc->nodes[doc->n++];
	*node = (struct json_node){.at = (uint32_t)(p->at - p->text), .end = (uint32_t)doc->n, .kind = (uint8_t)kind};
	return node;
}

static int take_escape(struct parse *p, struct duct_error *err)
{
	if (p->at + 1 >= p->end)
		return fail_at(p, err, "it ends inside a string");
	p->at++;
	if (*p->at != 'u') {
		if (!*p->at || !strchr("\"\\/bfnrt", *p->at))
			return fail_at(p, err, "a backslash that escapes nothing");
		p->at++;
		return 0;
	}
	for (int i = 1; i <= 4; i++)
		if (p->at + i >= p->end || duct_hex_digit(p->at[i]) < 0)
			return fail_at(p, err, "\\u needs four hex digits");
	p->at += 5;
	return 0;
}

static int take_string(struct parse *p, struct duct_error *err)
{
	struct json_node *node = add_node(p, JSON_KIND_STRING);
	node->at++;
	for (p->at++;;) {
		while (p->at < p->end && *p->at != '"' && *p->at != '\\' && (unsigned char)*p->at >= 0x20)
			p->at++;
		if (p->at == p->end)
			return fail_at(p, err, "it ends inside a string");
		if (*p->at == '"')
			break;
		if (*p->at != '\\')
			return fail_at(p, err, "a control character in a string");
		node->escaped = true;
		if (take_escape(p, err))
			return -(int)err->class;
	}
	node->len = (uint32_t)(p->at - p->text) - node->at;
	p->at++;
	return 0;
}

static bool take_digits(struct parse *p)
{
	const char *from = p->at;
	while (p->at < p->end && *p->at >= '0' && *p->at <= '9')
		p->at++;
	return p->at > from;
}

static int take_number(struct parse *p, struct duct_error *err)
{
	struct json_node *node = add_node(p, JSON_KIND_INTEGER);
	const char *from = p->at;
	p->at += *p->at == '-';
	bool zero = p->at < p->end && *p->at == '0', good = zero || take_digits(p);
	p->at += zero;
	if (good && p->at < p->end && *p->at == '.') {
		node->kind = JSON_KIND_NUMBER;
		p->at++;
		good = take_digits(p);
	}
	if (good && p->at < p->end && (*p->at == 'e' || *p->at == 'E')) {
		node->kind = JSON_KIND_NUMBER;
		p->at++;
		p->at += p->at < p->end && (*p->at == '+' || *p->at == '-');
		good = take_digits(p);
	}
	node->len = (uint32_t)(p->at - from);
	return good ? 0 : fail_at(p, err, "not a number");
}

static int take_word(struct parse *p, const char *word, enum json_kind kind, struct duct_error *err)
{
	size_t n = strlen(word);
	if ((size_t)(p->end - p->at) < n || memcmp(p->at, word, n) != 0)
		return fail_at(p, err, "a value is expected");
	add_node(p, kind)->len = (uint32_t)n;
	p->at += n;
	return 0;
}

static int take_scalar(struct parse *p, struct duct_error *err)
{
	switch (*p->at) {
	case '"': return take_string(p, err);
	case 't': return take_word(p, "true", JSON_KIND_TRUE, err);
	case 'f': return take_word(p, "false", JSON_KIND_FALSE, err);
	case 'n': return take_word(p, "null", JSON_KIND_NULL, err);
	default:
		if (*p->at == '-' || (*p->at >= '0' && *p->at <= '9'))
			return take_number(p, err);
		return fail_at(p, err, "a value is expected");
	}
}

static int take_name(struct parse *p, struct duct_error *err)
{
	skip_blanks(p);
	if (p->at == p->end || *p->at != '"')
		return fail_at(p, err, "a name in double quotes is expected");
	if (take_string(p, err))
		return -(int)err->class;
	skip_blanks(p);
	if (p->at == p->end || *p->at != ':')
		return fail_at(p, err, "a colon is expected");
	p->at++;
	return 0;
}

static struct json_node *innermost(const struct parse *p)
{
	return &p->doc->nodes[p->open[p->depth - 1]];
}

static void close_container(struct parse *p)
{
	struct json_node *node = innermost(p);
	node->len = (uint32_t)(++p->at - p->text) - node->at;
	node->end = (uint32_t)p->doc->n;
	p->depth--;
}

/* Opens what begins here. *ret_empty: it is closed already. */
static int open_container(struct parse *p, bool *ret_empty, struct duct_error *err)
{
	char close = *p->at == '{' ? '}' : ']';
	if (p->depth == JSON_MOST_DEPTH)
		return fail_at(p, err, "nested deeper than 200 levels");
	p->open[p->depth++] = (uint32_t)p->doc->n;
	(void)add_node(p, close == '}' ? JSON_KIND_OBJECT : JSON_KIND_ARRAY);
	p->at++;
	skip_blanks(p);
	*ret_empty = p->at < p->end && *p->at == close;
	if (*ret_empty)
		close_container(p);
	else if (close == '}')
		return take_name(p, err);
	return 0;
}

/* Behind a value: closes what ends there. *ret_more: another value comes. */
static int after_value(struct parse *p, bool *ret_more, struct duct_error *err)
{
	for (*ret_more = false; p->depth;) {
		bool object = innermost(p)->kind == JSON_KIND_OBJECT;
		skip_blanks(p);
		if (p->at < p->end && *p->at == ',') {
			p->at++;
			*ret_more = true;
			return object ? take_name(p, err) : 0;
		}
		if (p->at == p->end || *p->at != (object ? '}' : ']'))
			return fail_at(p, err, p->at == p->end ? "it ends too early" : "a comma is expected");
		close_container(p);
	}
	return 0;
}

static int take_values(struct parse *p, struct duct_error *err)
{
	for (bool more = true; more;) {
		bool empty = true;
		skip_blanks(p);
		if (p->at == p->end)
			return fail_at(p, err, "it ends too early");
		bool container = *p->at == '{' || *p->at == '[';
		int rc = container ? open_container(p, &empty, err) : take_scalar(p, err);
		if (rc)
			return rc;
		if (container && !empty)
			continue;
		if (after_value(p, &more, err))
			return -(int)err->class;
	}
	return 0;
}

int json_parse(struct json_doc *doc, const char *text, size_t n, struct duct_error *err)
{
	struct parse p = {.doc = doc, .text = text, .at = text, .end = text + n};
	doc->text = text;
	doc->n = 0;
	if (n > INT32_MAX)
		return duct_fail(err, DUCT_DATA, "JSON of more than 2 GiB");
	if (n >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
		p.at += 3;
	if (take_values(&p, err))
		return -(int)err->class;
	skip_blanks(&p);
	if (p.at != p.end)
		return fail_at(&p, err, "something follows the value");
	if (!duct_utf8_valid(text, n))
		return duct_fail(err, DUCT_DATA, "not valid JSON: it is not UTF-8");
	return 0;
}

void json_done(struct json_doc *doc)
{
	free(doc->nodes);
	*doc = (struct json_doc){0};
}

/* --- strings --- */

static uint32_t hex4(const char *s)
{
	uint32_t code = 0;
	for (int i = 0; i < 4; i++)
		code = code << 4 | (uint32_t)duct_hex_digit(s[i]);
	return code;
}

static void put_code(struct duct_buf *to, uint32_t c)
{
	if (c < 0x80) {
		duct_buf_putc(to, (char)c);
	} else if (c < 0x800) {
		duct_buf_putc(to, (char)(0xc0 | c >> 6));
		duct_buf_putc(to, (char)(0x80 | (c & 0x3f)));
	} else {
		duct_buf_putc(to, (char)(c < 0x10000 ? 0xe0 | c >> 12 : 0xf0 | c >> 18));
		if (c >= 0x10000)
			duct_buf_putc(to, (char)(0x80 | (c >> 12 & 0x3f)));
		duct_buf_putc(to, (char)(0x80 | (c >> 6 & 0x3f)));
		duct_buf_putc(to, (char)(0x80 | (c & 0x3f)));
	}
}

/* s: behind "\u"; returns what comes behind it, and behind the other half of the pair. */
static const char *put_unicode(struct duct_buf *to, const char *s, const char *end)
{
	uint32_t code = hex4(s);
	s += 4;
	if (code >= 0xd800 && code < 0xdc00 && end - s >= 6 && s[0] == '\\' && s[1] == 'u') {
		uint32_t low = hex4(s + 2);
		if (low >= 0xdc00 && low < 0xe000) {
			put_code(to, 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00));
			return s + 6;
		}
	}
	put_code(to, code >= 0xd800 && code < 0xe000 ? 0xfffd : code);
	return s;
}

void json_unescape(const struct json_doc *doc, const struct json_node *node, struct duct_buf *to)
{
	static const char from[] = "bfnrt", into[] = "\b\f\n\r\t";
	const char *s = doc->text + node->at, *end = s + node->len;
	duct_buf_room(to, node->len);
	while (s < end) {
		const char *stop = node->escaped ? memchr(s, '\\', (size_t)(end - s)) : NULL;
		duct_buf_append(to, s, (size_t)((stop ? stop : end) - s));
		if (!stop)
			return;
		const char *plain = strchr(from, stop[1]);
		if (stop[1] == 'u') {
			s = put_unicode(to, stop + 2, end);
			continue;
		}
		duct_buf_putc(to, plain ? into[plain - from] : stop[1]);
		s = stop + 2;
	}
}

bool json_is_text(const struct json_doc *doc, const struct json_node *node, const char *text, size_t n)
{
	if (!node->escaped)
		return node->len == n && memcmp(doc->text + node->at, text, n) == 0;
	AUTO_BUF struct duct_buf plain = {0};
	json_unescape(doc, node, &plain);
	return plain.len == n && memcmp(plain.data, text, n) == 0;
}

const struct json_node *json_member(const struct json_doc *doc, const struct json_node *object, const char *name, size_t n)
{
	if (object->kind != JSON_KIND_OBJECT)
		return NULL;
	const struct json_node *end = doc->nodes + object->end;
	for (const struct json_node *at = object + 1; at < end; at = doc->nodes + at[1].end)
		if (json_is_text(doc, at, name, n))
			return at + 1;
	return NULL;
}

/* --- paths --- */

enum { STEP_NAME = -1, STEP_LAST = -2 };

struct path_step {
	const char *name;
	size_t n;
	long index; /* or STEP_... */
};

/* The step that begins at *at; false: there is none, or it is wrong (then *at stands on what is). */
static bool next_step(const char **at, bool first, struct path_step *ret)
{
	const char *s = *at;
	*ret = (struct path_step){.index = STEP_NAME};
	if (strncmp(s, "[-1]", 4) == 0) {
		ret->index = STEP_LAST;
		*at = s + 4;
		return true;
	}
	if (*s == '[') {
		size_t digits = strspn(s + 1, "0123456789");
		if (!digits || digits > 9 || s[1 + digits] != ']')
			return false;
		ret->index = strtol(s + 1, NULL, 10);
		*at = s + digits + 2;
		return true;
	}
	if (!first && *s != '.')
		return false;
	s += !first;
	if (*s == '"') {
		const char *close = strchr(s + 1, '"');
		if (!close)
			return false;
		ret->name = s + 1;
		ret->n = (size_t)(close - s) - 1;
		*at = close + 1;
		return true;
	}
	ret->name = s;
	ret->n = strcspn(s, ".[\"]");
	if (!ret->n)
		return false;
	*at = s + ret->n;
	return true;
}

static const char *path_begin(const char *path)
{
	if (*path == '$' && (!path[1] || path[1] == '.' || path[1] == '['))
		path += path[1] == '.' ? 2 : 1;
	return path;
}

int json_path_check(const char *path, struct duct_error *err)
{
	const char *from = path_begin(path);
	struct path_step step;
	for (const char *at = from; *at;)
		if (!next_step(&at, at == from, &step))
			return duct_fail(err, DUCT_CONFIG, "path \"%.100s\": byte %zu: a name, .name, [number] or [-1] is expected",
					 path, (size_t)(at - path));
	return 0;
}

static const struct json_node *find_item(const struct json_doc *doc, const struct json_node *list, long index)
{
	const struct json_node *end = doc->nodes + list->end, *item = NULL, *next = list + 1;
	if (list->kind != JSON_KIND_ARRAY)
		return NULL;
	for (long i = 0; next < end && (index == STEP_LAST || i <= index); i++) {
		item = index == STEP_LAST || i == index ? next : NULL;
		next = doc->nodes + next->end;
	}
	return item;
}

const struct json_node *json_find(const struct json_doc *doc, const struct json_node *from, const char *path, size_t *ret_at)
{
	const char *begin = path_begin(path), *at = begin;
	struct path_step step;
	while (*at) {
		const char *rest = at + (*at == '.');
		if (ret_at)
			*ret_at = (size_t)(at - path);
		if (!next_step(&at, at == begin, &step))
			return NULL;
		const struct json_node *found =
			step.index == STEP_NAME ? json_member(doc, from, step.name, step.n) : find_item(doc, from, step.index);
		if (!found)
			return json_member(doc, from, rest, strlen(rest)); /* a name with dots */
		from = found;
	}
	return from;
}
