/* Tags, text and references, and nothing else of XML: see xml.h. */
#include "net/xml.h"

#include <stdbool.h>
#include <string.h>

#include "base/hex.h"

static int fail(struct duct_error *err, const char *why)
{
	return duct_fail(err, DUCT_DATA, "no XML that can be read: %s", why);
}

void xml_init(struct xml *xml, const char *text, size_t n)
{
	text = text ? text : "";
	*xml = (struct xml){.at = text, .end = text + n};
	duct_buf_append(&xml->text, "", 0);
}

void xml_done(struct xml *xml)
{
	duct_buf_done(&xml->text);
}

static bool looks_at(const struct xml *xml, const char *what)
{
	size_t n = strlen(what);
	return (size_t)(xml->end - xml->at) >= n && memcmp(xml->at, what, n) == 0;
}

/* Goes behind the next `what`; false: there is none. */
static bool pass(struct xml *xml, const char *what)
{
	const char *found = memmem(xml->at, (size_t)(xml->end - xml->at), what, strlen(what));
	if (found)
		xml->at = found + strlen(what);
	return found;
}

static void append_point(struct duct_buf *to, uint32_t c)
{
	if (c == 0 || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
		c = 0xfffd;
	if (c < 0x80) {
		duct_buf_putc(to, (char)c);
	} else if (c < 0x800) {
		duct_buf_append(to, (char[]){(char)(0xc0 | c >> 6), (char)(0x80 | (c & 63))}, 2);
	} else if (c < 0x10000) {
		duct_buf_append(to, (char[]){(char)(0xe0 | c >> 12), (char)(0x80 | (c >> 6 & 63)), (char)(0x80 | (c & 63))}, 3);
	} else {
		char four[] = {(char)(0xf0 | c >> 18), (char)(0x80 | (c >> 12 & 63)), (char)(0x80 | (c >> 6 & 63)),
			       (char)(0x80 | (c & 63))};
		duct_buf_append(to, four, 4);
	}
}

static bool append_number(struct duct_buf *to, const char *digits, size_t n)
{
	int base = n && *digits == 'x' ? 16 : 10;
	uint32_t value = 0;
	size_t i = base == 16;
	if (i == n || n > 8)
		return false;
	for (; i < n; i++) {
		int digit = duct_hex_digit(digits[i]);
		if (digit < 0 || digit >= base)
			return false;
		value = value * (uint32_t)base + (uint32_t)digit;
	}
	append_point(to, value);
	return true;
}

/* At an "&". */
static bool take_reference(struct xml *xml)
{
	static const char *const names[] = {"amp", "lt", "gt", "quot", "apos"};
	const char *name = xml->at + 1, *end = memchr(xml->at, ';', (size_t)(xml->end - xml->at));
	if (!end)
		return false;
	size_t n = (size_t)(end - name);
	xml->at = end + 1;
	if (n && *name == '#')
		return append_number(&xml->text, name + 1, n - 1);
	for (size_t i = 0; i < DUCT_LEN(names); i++)
		if (strlen(names[i]) == n && memcmp(names[i], name, n) == 0) {
			duct_buf_putc(&xml->text, "&<>\"'"[i]);
			return true;
		}
	return false;
}

/* Text up to the next tag. */
static int take_text(struct xml *xml, struct duct_error *err)
{
	while (xml->at < xml->end && *xml->at != '<') {
		size_t n = 0, left = (size_t)(xml->end - xml->at);
		while (n < left && xml->at[n] != '<' && xml->at[n] != '&')
			n++;
		duct_buf_append(&xml->text, xml->at, n);
		xml->at += n;
		if (n < left && *xml->at == '&' && !take_reference(xml))
			return fail(err, "an unknown reference");
	}
	return 0;
}

/* What begins with "<!" or "<?". */
static int take_other(struct xml *xml, struct duct_error *err)
{
	if (looks_at(xml, "<![CDATA[")) {
		const char *begin = xml->at + 9;
		if (!pass(xml, "]]>"))
			return fail(err, "it ends too early");
		duct_buf_append(&xml->text, begin, (size_t)(xml->at - 3 - begin));
		return 0;
	}
	if (looks_at(xml, "<!") && !looks_at(xml, "<!--"))
		return fail(err, "a document type");
	return pass(xml, looks_at(xml, "<!") ? "-->" : "?>") ? 0 : fail(err, "it ends too early");
}

/* Where the tag's ">" is, not in an attribute's value; NULL: nowhere. */
static const char *end_of_tag(const struct xml *xml)
{
	char quote = 0;
	for (const char *at = xml->at; at < xml->end; at++) {
		if (quote ? *at == quote : *at == '"' || *at == '\'')
			quote = quote ? 0 : *at;
		else if (!quote && *at == '>')
			return at;
	}
	return NULL;
}

/* "<a:Name attribute>", "</Name>", "<Name/>" */
static int take_tag(struct xml *xml, const char **ret_name, struct duct_error *err)
{
	const char *end = end_of_tag(xml), *name = xml->at + 1;
	if (!end)
		return fail(err, "it ends too early");
	bool closes = name < end && *name == '/';
	name += closes;
	size_t n = 0;
	for (; name + n < end && !strchr(" \t\r\n/", name[n]); n++)
		if (name[n] == ':') {
			name += n + 1;
			n = (size_t)-1;
		}
	if (n == 0 || n >= XML_MOST_NAME)
		return fail(err, "a tag without a name, or with too long a one");
	if (closes && (!xml->depth || strlen(xml->open[xml->depth - 1]) != n || memcmp(xml->open[xml->depth - 1], name, n) != 0))
		return fail(err, "an end without its begin");
	if (!closes && xml->depth == XML_MOST_DEPTH)
		return fail(err, "too deep");
	xml->empty = !closes && end[-1] == '/';
	xml->at = end + 1;
	if (closes) {
		*ret_name = xml->open[--xml->depth];
		return XML_END;
	}
	char *open = xml->open[xml->depth++];
	memcpy(open, name, n);
	open[n] = 0;
	*ret_name = open;
	return XML_BEGIN;
}

int xml_next(struct xml *xml, const char **ret_name, struct duct_error *err)
{
	xml->text.len = 0;
	xml->text.data[0] = 0;
	if (xml->empty) {
		xml->empty = false;
		*ret_name = xml->open[--xml->depth];
		return XML_END;
	}
	while (xml->at < xml->end) {
		int rc = take_text(xml, err);
		if (rc < 0)
			return rc;
		if (xml->at == xml->end)
			break;
		if (!looks_at(xml, "<!") && !looks_at(xml, "<?"))
			return take_tag(xml, ret_name, err);
		rc = take_other(xml, err);
		if (rc < 0)
			return rc;
	}
	return xml->depth ? fail(err, "it ends too early") : XML_DONE;
}

char *xml_find(const char *text, size_t n, const char *name)
{
	AUTO_XML struct xml xml;
	const char *found;
	struct duct_error unwanted;
	int event;
	xml_init(&xml, text, n);
	while ((event = xml_next(&xml, &found, &unwanted)) > 0)
		if (event == XML_END && strcmp(found, name) == 0)
			return duct_xstrndup(xml.text.data, xml.text.len);
	return NULL;
}
