/* The environment of copies: see settings.h. */
#include "copy/settings.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

/* What the page says for local development. */
static const struct variable {
	const char *name, *local;
	enum { ALWAYS, OF_POSTGRES, OF_BUCKET, OF_KEYS, OF_ENDPOINT } part;
	bool secret;
} variables[] = {
	{"DUCKLAKE_RDS_HOST", "localhost", OF_POSTGRES, false},
	{"DUCKLAKE_RDS_PORT", "5432", OF_POSTGRES, false},
	{"DUCKLAKE_RDS_DATABASE", "ducklake_catalog", OF_POSTGRES, false},
	{"DUCKLAKE_RDS_USERNAME", "posthog", OF_POSTGRES, false},
	{"DUCKLAKE_RDS_PASSWORD", "posthog", OF_POSTGRES, true},
	{"DUCKLAKE_BUCKET", "ducklake-dev", OF_BUCKET, false},
	{"DUCKLAKE_BUCKET_REGION", "us-east-1", OF_BUCKET, false},
	{"DUCKLAKE_S3_ACCESS_KEY", "object_storage_root_user", OF_KEYS, false},
	{"DUCKLAKE_S3_SECRET_KEY", "object_storage_root_password", OF_KEYS, true},
	{"DUCKLAKE_S3_ENDPOINT", "http://localhost:19000", OF_ENDPOINT, false},
};

static bool is_set(const char *name)
{
	const char *text = getenv(name);
	return text && *text;
}

/* Whether it counts, as far as the others say. */
static bool is_wanted(const struct variable *v, bool dev)
{
	switch (v->part) {
	case OF_POSTGRES: return !is_set("DUCKLAKE_CATALOG");
	case OF_BUCKET: return !is_set("DUCKLAKE_DATA_PATH");
	case OF_KEYS:
		return dev && !is_set("AWS_ACCESS_KEY_ID") && !is_set("AWS_PROFILE") && !is_set("AWS_WEB_IDENTITY_TOKEN_FILE");
	case OF_ENDPOINT: return dev && !is_set("AWS_ENDPOINT_URL_S3") && !is_set("AWS_ENDPOINT_URL");
	default: return true;
	}
}

/* Keys are given together or not at all. */
static bool has_one_key(void)
{
	return is_set("DUCKLAKE_S3_ACCESS_KEY") || is_set("DUCKLAKE_S3_SECRET_KEY");
}

static void fill(struct duct_buf *filled)
{
	bool keys = !has_one_key();
	for (size_t i = 0; i < DUCT_LEN(variables); i++) {
		const struct variable *v = &variables[i];
		if (is_set(v->name) || !is_wanted(v, true) || (v->part == OF_KEYS && !keys))
			continue;
		(void)setenv(v->name, v->local, 1);
		duct_buf_printf(filled, "%s%s=%s", filled->len ? ", " : "", v->name, v->secret ? "***" : v->local);
	}
}

static int demand(const char *mode, struct duct_error *err)
{
	for (size_t i = 0; i < DUCT_LEN(variables); i++)
		if (!is_set(variables[i].name) && is_wanted(&variables[i], false))
			return duct_fail(
				err, DUCT_CONFIG,
				"required environment variable %s is not set (DUCTSTREAM_ENV is %s; only dev has defaults)",
				variables[i].name, mode);
	return 0;
}

static int read_mode(bool *ret_dev, const char **ret_mode, struct duct_error *err)
{
	const char *mode = is_set("DUCTSTREAM_ENV") ? getenv("DUCTSTREAM_ENV") : "dev";
	*ret_mode = mode;
	*ret_dev = strcmp(mode, "dev") == 0;
	if (!*ret_dev && strcmp(mode, "staging") != 0 && strcmp(mode, "production") != 0)
		return duct_fail(err, DUCT_CONFIG, "DUCTSTREAM_ENV: \"%.40s\" is none of dev, staging, production", mode);
	return 0;
}

int copy_settings_load(struct copy_settings *ret, struct duct_arena *arena, const char **ret_filled, struct duct_error *err)
{
	const char *mode;
	AUTO_BUF struct duct_buf filled = {0};
	*ret = (struct copy_settings){0};
	*ret_filled = NULL;
	if (read_mode(&ret->dev, &mode, err) < 0 || (!ret->dev && demand(mode, err) < 0))
		return -(int)err->class;
	if (ret->dev)
		fill(&filled);
	if (filled.len)
		*ret_filled = duct_arena_strdup(arena, filled.data);
	if (duck_lake_from_env(&ret->lake, arena, err) < 0 || s3_options_of_lake(&ret->s3, &ret->bucket, err) < 0)
		return -(int)err->class;
	if (!ret->lake.data_path) /* a lake elsewhere is not what was meant */
		ret->lake.data_path = ret->lake.new_data_path;
	AUTO_FREE char *key = NULL;
	free(ret->bucket);
	ret->bucket = NULL;
	return s3_is_url(ret->lake.data_path) ? s3_url_parse(ret->lake.data_path, &ret->bucket, &key, err) : 0;
}

void copy_settings_done(struct copy_settings *settings)
{
	s3_options_done(&settings->s3);
	free(settings->bucket);
	*settings = (struct copy_settings){0};
}
