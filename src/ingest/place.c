/* The lake that rows go to: its catalog, and its files on this machine or in S3. */
#include "ingest/ingest.h"

#include <stdlib.h>

#include "base/mem.h"
#include "duck/s3.h"

static int use_s3(struct ingest_place *place, const char *data_path, const struct duct_ctx *ctx, struct duct_error *err)
{
	AUTO_FREE char *bucket = NULL, *key = NULL, *ignored = NULL;
	if (s3_options_of_lake(&place->options, &ignored, err) || s3_url_parse(data_path, &bucket, &key, err))
		return -(int)err->class;
	place->scope = duct_xasprintf("s3://%s", bucket);
	place->credentials = aws_credentials_open(&place->options, ctx->stop_fd);
	return 0;
}

int ingest_place_open(struct ingest_place *ret, const struct lake_config *config, const struct duct_ctx *ctx,
		      struct duct_error *err)
{
	struct lake_config wanted = *config;
	*ret = (struct ingest_place){0};
	wanted.remote = true;
	if (lake_open(&ret->lake, &wanted, ctx, err))
		return -(int)err->class;
	const char *data_path = lake_data_path(ret->lake);
	if (s3_is_url(data_path) && use_s3(ret, data_path, ctx, err))
		return -(int)err->class;
	if (lake_store_open(&ret->store, data_path, &ret->options, ret->credentials, ctx->stop_fd, err))
		return -(int)err->class;
	lake_use_s3(ret->lake, lake_store_s3(ret->store));
	return 0;
}

void ingest_place_close(struct ingest_place *place)
{
	lake_store_close(place->store);
	lake_close(place->lake);
	aws_credentials_close(place->credentials);
	s3_options_done(&place->options);
	free(place->scope);
	*place = (struct ingest_place){0};
}

int ingest_place_allow(struct ingest_place *place, struct duck_conn *conn, struct duct_error *err)
{
	return place->credentials ? duck_allow_s3(conn, "lake_s3", place->scope, &place->options, place->credentials, NULL, err)
				  : 0;
}
