#ifndef NET_XML_H
#define NET_XML_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/error.h"

/*
 * Reads the small XML that S3 and STS answer with: elements and their text. Attributes, comments and processing instructions are passed
 * over, a document type is refused, so nothing expands. Bounded by the text it is given and XML_MOST_DEPTH.
 */
enum { XML_MOST_DEPTH = 16, XML_MOST_NAME = 64 };

struct xml {
	const char *at, *end;
	int depth;
	bool empty; /* an element like <a/> is open, its end comes next */
	char open[XML_MOST_DEPTH][XML_MOST_NAME];
	struct duct_buf text;
};

enum xml_event { XML_DONE, XML_BEGIN, XML_END };

/* The text is borrowed; xml_done() frees. */
void xml_init(struct xml *xml, const char *text, size_t n);
void xml_done(struct xml *xml);
#define AUTO_XML __attribute__((cleanup(xml_done)))

/*
 * The next begin or end of an element: *ret_name, without its prefix, valid until the next call. At an end, xml->text is what stood between
 * the last tag and this one, decoded and NUL-terminated: the whole text of an element without others in it. -DATA: it is no XML, or too deep.
 */
int xml_next(struct xml *xml, const char **ret_name, struct duct_error *err) DUCT_CHECKED;

/* The text of the first element of that name, wherever it is; NULL: there is none, or no XML. Caller frees. */
char *xml_find(const char *text, size_t n, const char *name);

#endif
