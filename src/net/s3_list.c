/* Lists of objects and of unfinished uploads, page by page, and deleting many. */
#include <openssl/evp.h>
#include <string.h>

#include "base/base64.h"
#include "base/hex.h"
#include "net/s3_internal.h"
#include "net/xml.h"

enum { MOST_DELETED = 1000, MD5_BYTES = 16 };

void s3_append_xml(struct duct_buf *to, const char *text)
{
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;
		if (strchr("&<>\"'", c) || c < ' ')
			duct_buf_printf(to, "&#%d;", c);
		else
			duct_buf_putc(to, (char)c);
	}
}

static void append_parameter(struct duct_buf *to, const char *name, const char *value)
{
	if (!value)
		return;
	duct_buf_printf(to, "%s%s=", to->len ? "&" : "", name);
	http_url_escape(to, value, strlen(value), "");
}

/* In place: what encoding-type=url made of a key. False: it has a byte that no key of ours can have. */
static bool unescape(char *text)
{
	char *to = text;
	for (; *text; text++) {
		int high = *text == '%' ? duct_hex_digit(text[1]) : -1, low = high >= 0 ? duct_hex_digit(text[2]) : -1;
		*to++ = low >= 0 ? (char)(high << 4 | low) : *text == '+' ? ' ' : *text;
		text += low >= 0 ? 2 : 0;
		if (!to[-1])
			return false;
	}
	*to = 0;
	return true;
}

/* What is collected of one page's XML. */
struct page {
	const struct s3_call *call; /* whose answer it is */
	const char *root;	    /* that it must have */
	bool is_one, escaped, bad_key;
	bool cut, says_cut; /* there is another page; whether it says so, or that there is none */
	char *token, *key_marker, *id_marker;
	char *key, *id;
	struct s3_object object;
	struct s3_unfinished upload;
	char etag[S3_MOST_ETAG];
	int (*object_fn)(void *arg, const struct s3_object *object, struct duct_error *err);
	int (*upload_fn)(void *arg, const struct s3_unfinished *upload, struct duct_error *err);
	void *arg;
};

static void page_done(struct page *page)
{
	free(page->token);
	free(page->key_marker);
	free(page->id_marker);
	free(page->key);
	free(page->id);
}

static void keep(char **to, const struct xml *xml)
{
	free(*to);
	*to = duct_xstrndup(xml->text.data, xml->text.len);
}

static void keep_key(struct page *page, char **to, const struct xml *xml)
{
	keep(to, xml);
	page->bad_key |= strlen(*to) != xml->text.len || (page->escaped && !unescape(*to));
}

static void take_field(struct page *page, const char *parent, const char *name, const struct xml *xml)
{
	bool object = strcmp(parent, "Contents") == 0, upload = strcmp(parent, "Upload") == 0,
	     top = strcmp(parent, page->root) == 0;
	if ((object || upload) && strcmp(name, "Key") == 0)
		keep_key(page, &page->key, xml);
	else if (object && strcmp(name, "Size") == 0)
		page->object.size = strtoull(xml->text.data, NULL, 10);
	else if (object && strcmp(name, "ETag") == 0)
		s3_copy_etag(page->etag, xml->text.data);
	else if (object && strcmp(name, "LastModified") == 0)
		page->object.modified_us = aws_time(xml->text.data);
	else if (upload && strcmp(name, "UploadId") == 0)
		keep(&page->id, xml);
	else if (upload && strcmp(name, "Initiated") == 0)
		page->upload.begun_us = aws_time(xml->text.data);
	else if (strcmp(parent, "CommonPrefixes") == 0 && strcmp(name, "Prefix") == 0)
		keep_key(page, &page->key, xml);
	else if (top && strcmp(name, "NextContinuationToken") == 0)
		keep(&page->token, xml);
	else if (top && strcmp(name, "NextKeyMarker") == 0)
		keep_key(page, &page->key_marker, xml);
	else if (top && strcmp(name, "NextUploadIdMarker") == 0)
		keep(&page->id_marker, xml);
	else if (top && strcmp(name, "IsTruncated") == 0) {
		page->says_cut = true;
		page->cut = strcmp(xml->text.data, "true") == 0;
	}
}

static void begin_entry(struct page *page)
{
	free(page->key);
	free(page->id);
	page->key = page->id = NULL;
	page->object = (struct s3_object){.modified_us = INT64_MAX};
	page->upload = (struct s3_unfinished){.begun_us = INT64_MAX};
	page->etag[0] = 0;
}

static int fail_page(const struct page *page, enum duct_class class, const char *why, struct duct_error *err)
{
	return duct_fail(err, class, "the list of bucket \"%s\" at %s cannot be used: %s", page->call->bucket, page->call->host,
			 why);
}

/* The end of an element that is a whole entry. */
static int take_entry(struct page *page, const char *name, struct duct_error *err)
{
	bool object = strcmp(name, "Contents") == 0, prefix = strcmp(name, "CommonPrefixes") == 0;
	if (page->bad_key)
		return fail_page(page, DUCT_DATA, "a key has a byte 0", err);
	if (page->object_fn && page->key && (object || prefix)) {
		page->object.key = page->key;
		page->object.etag = page->etag;
		page->object.is_prefix = prefix;
		return page->object_fn(page->arg, &page->object, err);
	}
	if (page->upload_fn && page->key && page->id && strcmp(name, "Upload") == 0) {
		page->upload.key = page->key;
		page->upload.id = page->id;
		return page->upload_fn(page->arg, &page->upload, err);
	}
	return 0;
}

static bool is_entry(const char *name)
{
	return strcmp(name, "Contents") == 0 || strcmp(name, "CommonPrefixes") == 0 || strcmp(name, "Upload") == 0;
}

static int read_page(struct page *page, struct duct_error *err)
{
	const struct http_answer *answer = &page->call->answer;
	struct duct_error why;
	AUTO_XML struct xml xml;
	AUTO_FREE char *encoding = xml_find(answer->body.data, answer->body.len, "EncodingType");
	const char *name;
	int event, rc = 0;
	page->escaped = encoding && strcmp(encoding, "url") == 0;
	xml_init(&xml, answer->body.data, answer->body.len);
	while (rc == 0 && (event = xml_next(&xml, &name, &why)) != XML_DONE) {
		if (event < 0)
			return fail_page(page, DUCT_RETRY, why.message, err);
		if (event == XML_BEGIN && xml.depth == 1 && strcmp(name, page->root) != 0)
			break;
		page->is_one = true;
		if (event == XML_BEGIN && is_entry(name))
			begin_entry(page);
		if (event == XML_END && xml.depth)
			take_field(page, xml.open[xml.depth - 1], name, &xml);
		if (event == XML_END && is_entry(name))
			rc = take_entry(page, name, err);
	}
	return rc || page->is_one ? rc : fail_page(page, DUCT_RETRY, "it is another document", err);
}

/* --- lists --- */

static bool same(const char *a, const char *b)
{
	return strcmp(a ? a : "", b ? b : "") == 0;
}

static bool is_empty(const char *text)
{
	return !text || !*text;
}

/* Pages of one kind: markers are NULL where the kind has others. */
struct pages {
	struct s3 *s3;
	const char *bucket, *prefix, *delimiter, *action;
	char *token, *key_marker, *id_marker; /* of the page that is asked for */
};

static int ask_page(const struct pages *pages, struct page *page, struct duct_error *err)
{
	AUTO_BUF struct duct_buf query = {0};
	bool uploads = page->upload_fn;
	append_parameter(&query, "continuation-token", pages->token);
	append_parameter(&query, "delimiter", pages->delimiter);
	append_parameter(&query, "encoding-type", "url");
	append_parameter(&query, "key-marker", pages->key_marker);
	append_parameter(&query, "list-type", uploads ? NULL : "2");
	append_parameter(&query, "prefix", pages->prefix);
	append_parameter(&query, "upload-id-marker", pages->id_marker);
	append_parameter(&query, "uploads", uploads ? "" : NULL);
	AUTO_CALL struct s3_call call = {
		.action = pages->action, .method = "GET", .bucket = pages->bucket, .prefix = pages->prefix, .query = query.data};
	page->call = &call;
	int rc = s3_send(pages->s3, &call, err);
	return rc < 0 ? rc : read_page(page, err);
}

/* A list that ends where it should go on would be taken for all there is. */
static int turn_page(struct pages *pages, struct page *page, struct duct_error *err)
{
	const char *why = NULL;
	if (is_empty(page->token) && is_empty(page->key_marker))
		why = "is cut off, and names no next page";
	else if (same(page->token, pages->token) && same(page->key_marker, pages->key_marker) &&
		 same(page->id_marker, pages->id_marker))
		why = "has no end: a page names itself as the next";
	if (why)
		return duct_fail(err, DUCT_FATAL, "the list of bucket \"%s\" at %s %s", pages->bucket, pages->s3->host, why);
	free(pages->token);
	free(pages->key_marker);
	free(pages->id_marker);
	pages->token = duct_steal(&page->token);
	pages->key_marker = duct_steal(&page->key_marker);
	pages->id_marker = duct_steal(&page->id_marker);
	return 0;
}

/* like: what a page begins with. */
static int read_pages(struct pages *pages, const struct page *like, struct duct_error *err)
{
	bool more = true;
	int rc = 0;
	while (rc == 0 && more) {
		struct page page = *like;
		rc = ask_page(pages, &page, err);
		more = page.says_cut ? page.cut : !is_empty(page.token) || !is_empty(page.key_marker);
		if (rc == 0 && more)
			rc = turn_page(pages, &page, err);
		page_done(&page);
	}
	free(pages->token);
	free(pages->key_marker);
	free(pages->id_marker);
	return rc;
}

int s3_list(struct s3 *s3, const char *bucket, const char *prefix, const char *delimiter,
	    int (*each)(void *arg, const struct s3_object *object, struct duct_error *err), void *arg, struct duct_error *err)
{
	struct pages pages = {.s3 = s3, .bucket = bucket, .prefix = prefix, .delimiter = delimiter, .action = "ListBucket"};
	const struct page like = {.root = "ListBucketResult", .object_fn = each, .arg = arg};
	return read_pages(&pages, &like, err);
}

int s3_list_uploads(struct s3 *s3, const char *bucket, const char *prefix,
		    int (*each)(void *arg, const struct s3_unfinished *upload, struct duct_error *err), void *arg,
		    struct duct_error *err)
{
	struct pages pages = {.s3 = s3, .bucket = bucket, .prefix = prefix, .action = "ListBucketMultipartUploads"};
	const struct page like = {.root = "ListMultipartUploadsResult", .upload_fn = each, .arg = arg};
	return read_pages(&pages, &like, err);
}

/* --- deleting many --- */

/* The answer names what could not be deleted. */
static int first_left(const char *bucket, const struct s3_call *call, struct duct_error *err)
{
	const struct http_answer *answer = &call->answer;
	AUTO_FREE char *code = s3_code(answer), *key = xml_find(answer->body.data, answer->body.len, "Key");
	if (!*code)
		return 0;
	bool passes = strcmp(code, "InternalError") == 0 || strcmp(code, "SlowDown") == 0;
	return duct_fail(err, passes ? DUCT_RETRY : DUCT_CONFIG, "bucket \"%s\" refuses DeleteObject of \"%s\" to %s: %s", bucket,
			 key ? key : "", call->who, code);
}

static int delete_some(struct s3 *s3, const char *bucket, const char *const *keys, size_t n, struct duct_error *err)
{
	AUTO_BUF struct duct_buf body = {0}, sum = {0};
	unsigned char md5[MD5_BYTES];
	duct_buf_puts(&body, "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Quiet>true</Quiet>");
	for (size_t i = 0; i < n; i++) {
		duct_buf_puts(&body, "<Object><Key>");
		s3_append_xml(&body, keys[i]);
		duct_buf_puts(&body, "</Key></Object>");
	}
	duct_buf_puts(&body, "</Delete>");
	EVP_Digest(body.data, body.len, md5, NULL, EVP_md5(), NULL);
	duct_base64_encode(&sum, md5, sizeof md5);
	AUTO_CALL struct s3_call call = {
		.action = "DeleteObject",
		.method = "POST",
		.bucket = bucket,
		.query = "delete=",
		.result = "DeleteResult",
		.headers = {{"content-md5", sum.data}},
		.nheaders = 1,
		.body = body.data,
		.body_len = body.len,
	};
	int rc = s3_send(s3, &call, err);
	return rc < 0 ? rc : first_left(bucket, &call, err);
}

int s3_delete_all(struct s3 *s3, const char *bucket, const char *const *keys, size_t n, struct duct_error *err)
{
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < n; i += MOST_DELETED)
		rc = delete_some(s3, bucket, keys + i, n - i < MOST_DELETED ? n - i : MOST_DELETED, err);
	return rc;
}
