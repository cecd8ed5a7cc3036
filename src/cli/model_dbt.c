#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "duck/session.h"
#include "model/model.h"
#include "net/s3_options.h"

/* As a YAML string. */
static void put_text(struct duct_buf *to, const char *text)
{
	duct_buf_json_string(to, text, strlen(text));
	duct_buf_putc(to, '\n');
}

static void put_line(struct duct_buf *to, const char *key, const char *text)
{
	if (!text)
		return;
	duct_buf_puts(to, key);
	put_text(to, text);
}

static int put_extensions(struct duct_buf *to, const char *const *names, struct duct_error *err)
{
	duct_buf_puts(to, "      extensions:\n");
	for (; *names; names++) {
		AUTO_FREE char *path = NULL;
		int rc = duck_extension_path(&path, *names, err);
		if (rc)
			return rc;
		put_line(to, "        - ", path);
	}
	return 0;
}

/* Keys come from the environment of dbt; without them from what its own extension "aws" finds. */
static int put_s3(struct duct_buf *to, struct duct_error *err)
{
	struct s3_options options;
	AUTO_FREE char *bucket = NULL, *host = NULL;
	bool tls = true;
	int rc = s3_options_of_lake(&options, &bucket, err);
	rc = rc ? rc : s3_endpoint_parse(options.endpoint, &host, &tls, err);
	if (rc == 0) {
		duct_buf_puts(to, "        - type: s3\n          name: ducklake_s3\n");
		if (options.access_key)
			duct_buf_puts(to,
				      "          key_id: \"{{ env_var('DUCKLAKE_S3_ACCESS_KEY') }}\"\n"
				      "          secret: \"{{ env_var('DUCKLAKE_S3_SECRET_KEY') }}\"\n");
		else
			duct_buf_puts(to, "          provider: credential_chain\n");
		put_line(to, "          region: ", s3_region(&options));
		put_line(to, "          endpoint: ", host && *host ? host : NULL);
		put_line(to, "          url_style: ", s3_path_style(&options) ? "path" : NULL);
		if (!tls)
			duct_buf_puts(to, "          use_ssl: false\n");
	}
	s3_options_done(&options);
	return rc;
}

static int put_profile(struct duct_buf *to, const struct duck_lake *lake, const char *profile, struct duct_error *err)
{
	AUTO_FREE char *target = NULL, *password = NULL;
	const char *data_path = lake->data_path ? lake->data_path : lake->new_data_path;
	bool sqlite = strncmp(lake->catalog, "sqlite:", 7) == 0, s3 = data_path && s3_is_url(data_path);
	const char *const names[] = {sqlite ? "sqlite_scanner" : "postgres_scanner", "ducklake", s3 ? "httpfs" : NULL, NULL};
	int rc = duck_lake_target(lake, &target, &password, err);
	if (rc)
		return rc;
	duct_buf_printf(to,
			"# For dbt-duckdb, by `ductstream model dbt-profile`: dbt builds into the same lake.\n"
			"%s:\n  target: lake\n  outputs:\n    lake:\n      type: duckdb\n      path: \":memory:\"\n"
			"      database: " MODEL_LAKE "\n      schema: main\n",
			profile);
	/* Transactions side by side on a SQLite catalog cannot all be committed. */
	duct_buf_printf(to, "      threads: %d\n", sqlite ? 1 : 4);
	if ((rc = put_extensions(to, names, err)))
		return rc;
	duct_buf_puts(to,
		      "      settings:\n        TimeZone: UTC\n        ducklake_max_retry_count: 200\n"
		      "        ducklake_retry_wait_ms: 150\n        ducklake_retry_backoff: 1.0\n");
	if (password || s3)
		duct_buf_puts(to, "      secrets:\n");
	if (password)
		duct_buf_puts(to,
			      "        - type: postgres\n          name: ducklake_catalog\n"
			      "          password: \"{{ env_var('DUCKLAKE_RDS_PASSWORD') }}\"\n");
	if (s3 && (rc = put_s3(to, err)))
		return rc;
	duct_buf_puts(to, "      attach:\n");
	put_line(to, "        - path: ", target);
	duct_buf_puts(to, "          alias: " MODEL_LAKE "\n          is_ducklake: true\n          options:\n");
	put_line(to, "            data_path: ", data_path);
	put_line(to, "            metadata_schema: ", sqlite ? NULL : lake->metadata_schema);
	if (password)
		duct_buf_puts(to, "            meta_secret: ducklake_catalog\n");
	if (sqlite)
		duct_buf_puts(to, "            meta_busy_timeout: 30000\n            meta_journal_mode: WAL\n");
	return 0;
}

/* A model's schema is what it says, never "main_" and what it says. */
static const char macro[] = "{% macro generate_schema_name(custom_schema_name, node) -%}\n"
			    "    {{ (custom_schema_name or target.schema) | trim }}\n"
			    "{%- endmacro %}\n";

/* Nothing of the user's is overwritten: 1 when something is there. */
static int write_new(const char *folder, const char *name, const char *text, struct duct_error *err)
{
	AUTO_FREE char *path = duct_xasprintf("%s/%s", folder, name);
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	if (fd < 0 && errno == EEXIST)
		return 1;
	size_t n = strlen(text);
	bool ok = fd >= 0 && write(fd, text, n) == (ssize_t)n;
	int code = errno;
	if (fd >= 0 && close(fd) != 0)
		ok = false;
	return ok ? 0 : duct_fail(err, DUCT_CONFIG, "\"%s\" cannot be written: %s", path, strerror(code));
}

static int write_files(const char *folder, const char *profile, struct duct_error *err)
{
	static const char *const files[] = {"profiles.yml", "macros/generate_schema_name.sql"};
	AUTO_FREE char *project = duct_xasprintf("%s/dbt_project.yml", folder);
	AUTO_FREE char *macros = duct_xasprintf("%s/macros", folder);
	AUTO_BUF struct duct_buf said = {0};
	if (access(project, R_OK) != 0)
		return duct_fail(err, DUCT_CONFIG, "folder \"%s\": is no dbt project: it has no dbt_project.yml", folder);
	(void)mkdir(macros, 0777); /* or it is there: else writing says why not */
	for (size_t i = 0; i < DUCT_LEN(files); i++) {
		int rc = write_new(folder, files[i], i ? macro : profile, err);
		if (rc < 0)
			return rc;
		duct_buf_printf(&said, "%s/%s: %s\n", folder, files[i], rc ? "is there already, left as it is" : "written");
	}
	return cli_print(&said, err);
}

static int run(int argc, char **argv, struct duct_error *err)
{
	const char *folder = NULL, *profile = NULL, *catalog = NULL, *data_path = NULL, *schema = NULL;
	const struct cli_flag flags[] = {{"profile", NULL, &profile},
					 {"catalog", NULL, &catalog},
					 {"data-path", NULL, &data_path},
					 {"metadata-schema", NULL, &schema},
					 {0}};
	int n = cli_flags_parse(argc, argv, flags, &folder, 0, 1, "the folder of a dbt project", err);
	if (n < 0)
		return n;
	struct duct_arena arena;
	struct duck_lake lake = {.catalog = catalog};
	AUTO_BUF struct duct_buf text = {0};
	duct_arena_init(&arena);
	int rc = catalog ? 0 : duck_lake_from_env(&lake, &arena, err);
	lake.data_path = data_path ? data_path : lake.data_path;
	lake.metadata_schema = schema ? schema : lake.metadata_schema;
	rc = rc ? rc : put_profile(&text, &lake, profile ? profile : "ductstream", err);
	if (rc == 0)
		rc = n ? write_files(folder, text.data, err) : cli_print(&text, err);
	duct_arena_done(&arena);
	return rc;
}

const struct cli_command cli_model_dbt_profile = {
	.name = "model dbt-profile",
	.usage = "model dbt-profile [DBT-PROJECT] [--profile NAME]",
	.summary = "a profile by which dbt-duckdb builds into the lake",
	.help = "Prints a profiles.yml for dbt-duckdb that attaches the lake when it connects, so\n"
		"that dbt's models persist in it. With the folder of a dbt project, writes it\n"
		"there, and a macro by which a model's schema is bronze, not main_bronze; files\n"
		"that are there are left as they are.\n\n"
		"  --profile NAME           as dbt_project.yml calls it, default ductstream\n"
		"  --catalog URI            sqlite:PATH or postgres:DSN, else DUCKLAKE_CATALOG\n"
		"  --data-path PATH         else DUCKLAKE_DATA_PATH\n"
		"  --metadata-schema NAME   else DUCKLAKE_METADATA_SCHEMA\n\n"
		"No secret is written: dbt takes a password from DUCKLAKE_RDS_PASSWORD, keys from\n"
		"DUCKLAKE_S3_ACCESS_KEY and DUCKLAKE_S3_SECRET_KEY.",
	.run = run,
};
