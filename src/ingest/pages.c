/* What the server sent, kept until all of it is known. */
#include "ingest/load.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum { PAGES_IN_MEMORY = 64 << 20 };

static int open_file(struct ingest_pages *pages, struct duct_error *err)
{
	const char *folder = getenv("TMPDIR");
	AUTO_FREE char *path = duct_xasprintf("%s/ductstream-ingest-XXXXXX", folder && *folder ? folder : "/tmp");
	pages->fd = mkostemp(path, 02000000); /* O_CLOEXEC */
	if (pages->fd < 0)
		return duct_fail(err, DUCT_RETRY, "create \"%s\": %s", path, strerror(errno));
	(void)unlink(path);
	return 0;
}

int ingest_pages_add(struct ingest_pages *pages, struct duct_buf *body, struct duct_error *err)
{
	pages->list = duct_grow(pages->list, &pages->cap, pages->n + 1, sizeof *pages->list);
	struct ingest_body *to = &pages->list[pages->n++];
	*to = (struct ingest_body){.n = body->len, .at = pages->in_file};
	if (pages->in_memory + (int64_t)body->len <= PAGES_IN_MEMORY || pages->n == 1) {
		pages->in_memory += (int64_t)body->len;
		to->text = *body;
		*body = (struct duct_buf){0};
		return 0;
	}
	if (pages->fd < 0 && open_file(pages, err))
		return -(int)err->class;
	for (size_t at = 0; at < body->len;) {
		ssize_t n = pwrite(pages->fd, body->data + at, body->len - at, pages->in_file);
		if (n < 0 && errno != EINTR)
			return duct_fail(err, DUCT_RETRY, "keep what the server sent in a file of TMPDIR: %s", strerror(errno));
		at += n > 0 ? (size_t)n : 0;
		pages->in_file += n > 0 ? n : 0;
	}
	return 0;
}

void ingest_pages_done(struct ingest_pages *pages)
{
	for (size_t i = 0; i < pages->n; i++)
		duct_buf_done(&pages->list[i].text);
	free(pages->list);
	if (pages->fd >= 0)
		close(pages->fd);
}

static int read_body(struct ingest_cursor *c, const struct ingest_body *body, const char **ret, struct duct_error *err)
{
	*ret = body->text.data;
	if (body->text.data)
		return 0;
	c->read.len = 0;
	*ret = duct_buf_room(&c->read, body->n);
	for (size_t at = 0; at < body->n;) {
		ssize_t n = pread(c->pages->fd, c->read.data + at, body->n - at, body->at + (int64_t)at);
		if (n == 0 || (n < 0 && errno != EINTR))
			return duct_fail(err, DUCT_RETRY, "read back what the server sent: %s", n ? strerror(errno) : "it is cut");
		at += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

/* Which members there are where the path ends. */
static void put_members(struct duct_buf *to, const struct json_doc *doc, const struct json_node *object)
{
	int n = 0;
	if (object->kind != JSON_KIND_OBJECT)
		return;
	for (uint32_t at = (uint32_t)(object - doc->nodes) + 1; at < object->end && n < 10; at = doc->nodes[at + 1].end)
		duct_buf_printf(to, "%s%.*s", n++ ? ", " : "", (int)doc->nodes[at].len, doc->text + doc->nodes[at].at);
}

int ingest_records(const struct ingest_spec *spec, const struct json_doc *doc, uint32_t *ret_at, uint32_t *ret_end,
		   struct duct_error *err)
{
	const char *path = spec->main.records ? spec->main.records : "";
	size_t at = 0;
	const struct json_node *node = json_find(doc, doc->nodes, path, &at);
	if (!node) {
		AUTO_BUF struct duct_buf members = {0};
		AUTO_FREE char *before = duct_xstrndup(path, at);
		const struct json_node *last = json_find(doc, doc->nodes, before, NULL);
		put_members(&members, doc, last ? last : doc->nodes);
		return duct_fail(err, DUCT_DATA, "records: the answer has no \"%s\"%s%s", path, members.len ? ": there is " : "",
				 members.len ? members.data : "");
	}
	*ret_at = (uint32_t)(node - doc->nodes);
	*ret_end = node->kind == JSON_KIND_NULL ? *ret_at : node->end;
	if (node->kind == JSON_KIND_ARRAY)
		++*ret_at;
	return 0;
}

int ingest_cursor_next(struct ingest_cursor *c, const struct json_node **ret, struct duct_error *err)
{
	while (c->at == c->end) {
		const char *text;
		if (c->page == c->pages->n)
			return 0;
		const struct ingest_body *body = &c->pages->list[c->page++];
		if (read_body(c, body, &text, err) || json_parse(&c->doc, text, body->n, err) ||
		    ingest_records(c->spec, &c->doc, &c->at, &c->end, err))
			return -(int)err->class;
	}
	*ret = &c->doc.nodes[c->at];
	c->at = (*ret)->end;
	c->row++;
	return 1;
}

void ingest_cursor_done(struct ingest_cursor *c)
{
	json_done(&c->doc);
	duct_buf_done(&c->read);
}
