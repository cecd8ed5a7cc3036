/* Tries out what copies need: see probe.h. */
#include "copy/probe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/uuid.h"
#include "lake/catalog.h"
#include "net/s3.h"

enum { BUSY_MS = 5000, GET_BYTES = 64 };

struct probing {
	const struct copy_store *store;
	struct s3 *s3;
	duct_report_fn *report;
	void *arg;
	char *bucket, *prefix, *key; /* of the lake; of the object that is tried */
};

static const char text[] = "ductstream was here";

static void tell(const struct probing *p, int rc, const struct duct_error *err, const char *action)
{
	AUTO_BUF struct duct_buf what = {0};
	if (rc == 0) {
		duct_buf_printf(&what, "%s under s3://%s/%s", action, p->bucket, p->prefix);
		p->report(p->arg, DUCT_FINDING_OK, what.data, NULL);
		return;
	}
	/* A server that is not well says nothing about rights. */
	bool refused = rc == -DUCT_CONFIG && err->vendor_code == 403;
	duct_buf_printf(&what, "%s %s under s3://%s/%s: %s", action, refused ? "is missing" : "has failed", p->bucket, p->prefix,
			err->message);
	p->report(p->arg, DUCT_FINDING_ERROR, what.data,
		  refused ? "allow it to who these keys belong to, or give others"
			  : "look at the server, DUCKLAKE_S3_ENDPOINT and the region");
}

static int see_none(void *arg, const struct s3_object *object, struct duct_error *err)
{
	(void)arg, (void)object, (void)err;
	return 0;
}

/* Each is tried, whatever became of the others; only an end that was asked for is one. */
static int try_objects(const struct probing *p, struct duct_error *err)
{
	const char *bucket = p->bucket;
	AUTO_BUF struct duct_buf got = {0};
	int rc = s3_list(p->s3, bucket, p->key, NULL, see_none, NULL, err);
	tell(p, rc, err, "s3:ListBucket");
	if (rc == -DUCT_CANCELLED)
		return rc;
	int put = s3_put(p->s3, bucket, p->key, text, sizeof text - 1, err);
	tell(p, put, err, "s3:PutObject");
	rc = s3_get(p->s3, bucket, p->key, GET_BYTES, &got, err);
	if (rc == 0 && put == 0 && (got.len != sizeof text - 1 || memcmp(got.data, text, got.len) != 0))
		rc = duct_fail(err, DUCT_DATA, "what was put comes back as something else");
	/* Nothing was put: that it is not there says that one may look. */
	tell(p, rc && put && s3_is_missing(err) ? 0 : rc, err, "s3:GetObject");
	rc = s3_delete(p->s3, bucket, p->key, err);
	tell(p, rc, err, "s3:DeleteObject");
	return rc == -DUCT_CANCELLED ? rc : 0;
}

/* 1: it is there. 0: it is not, which was told. */
static int try_bucket(const struct probing *p, struct duct_error *err)
{
	const char *bucket = p->bucket;
	AUTO_FREE char *what = duct_xasprintf("bucket \"%s\"", bucket),
		       *none = duct_xasprintf("bucket \"%s\" does not exist", bucket),
		       *made = duct_xasprintf("bucket \"%s\" was missing and has been created", bucket);
	bool there = false;
	int rc = s3_bucket_exists(p->s3, bucket, &there, err);
	if (rc == -DUCT_CONFIG && err->vendor_code == 403) /* who may not ask whether it is there may do other things */
		return 1;
	if (rc == 0 && !there && p->store->create)
		rc = s3_create_bucket(p->s3, bucket, err);
	else if (rc == 0 && !there)
		p->report(p->arg, DUCT_FINDING_ERROR, none, "create it; only DUCTSTREAM_ENV=dev does by itself");
	if (rc == -DUCT_CANCELLED)
		return rc;
	if (rc < 0)
		p->report(p->arg, DUCT_FINDING_ERROR, err->message, "look at DUCKLAKE_S3_ENDPOINT and the keys");
	else if (there || p->store->create)
		p->report(p->arg, DUCT_FINDING_OK, there ? what : made, NULL);
	return rc == 0 && (there || p->store->create);
}

int copy_probe_store(const struct copy_store *store, const struct duct_ctx *ctx, duct_report_fn *report, void *arg,
		     struct duct_error *err)
{
	char uuid[DUCT_UUID_LEN];
	struct probing p = {.store = store, .report = report, .arg = arg};
	int rc = s3_url_parse(store->data_path, &p.bucket, &p.prefix, err);
	if (rc < 0)
		return rc;
	size_t n = strlen(p.prefix);
	p.key = duct_xasprintf("%s%sductstream-check-%s", p.prefix, n && p.prefix[n - 1] != '/' ? "/" : "", duct_uuid_v7(uuid));
	struct aws_credentials *credentials = aws_credentials_open(store->options, ctx->stop_fd);
	rc = s3_open(&p.s3, store->options, credentials, ctx->stop_fd, err);
	rc = rc < 0 ? rc : try_bucket(&p, err);
	if (rc == 1)
		rc = try_objects(&p, err);
	s3_close(p.s3);
	aws_credentials_close(credentials);
	free(p.bucket);
	free(p.prefix);
	free(p.key);
	return rc;
}

static void try_catalog(const struct duck_lake *lake, const struct duct_ctx *ctx, duct_report_fn *report, void *arg)
{
	struct duct_error why;
	bool there = false;
	AUTO_FREE char *label = duck_lake_label(lake), *good = duct_xasprintf("catalog %s", label),
		       *none = duct_xasprintf("catalog %s: no lake is there yet; the first copy makes it", label);
	struct lake_config config = {
		.catalog = lake->catalog,
		.metadata_schema = lake->metadata_schema,
		.data_path = lake->data_path,
		.remote = true,
		.flow = "check",
		.read_only = true,
		.busy_timeout_ms = BUSY_MS,
	};
	if (lake_exists(&config, ctx, &there, &why) < 0)
		report(arg, DUCT_FINDING_ERROR, why.message,
		       "look at DUCKLAKE_CATALOG, or at DUCKLAKE_RDS_HOST and what belongs to it");
	else
		report(arg, DUCT_FINDING_OK, there ? good : none, NULL);
}

int copy_probe(const struct copy_settings *settings, const struct duct_ctx *ctx, duct_report_fn *report, void *arg,
	       struct duct_error *err)
{
	const struct copy_store store = {&settings->s3, settings->lake.data_path, settings->dev};
	int rc = settings->bucket ? copy_probe_store(&store, ctx, report, arg, err) : 0;
	if (rc < 0)
		return rc;
	if (!settings->bucket) {
		AUTO_FREE char *what = duct_xasprintf("the lake is the folder %s", settings->lake.data_path);
		report(arg, DUCT_FINDING_OK, what, NULL);
	}
	try_catalog(&settings->lake, ctx, report, arg);
	return 0;
}
