/* One team: its fields as given, and what they mean. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "export/registry.h"
#include "flow/flow_env.h"
#include "net/s3_options.h"

const char *const export_field_names[EXPORT_FIELDS] = {
	[EXPORT_TEAM_ID] = "team_id",
	[EXPORT_BUCKET] = "bucket",
	[EXPORT_BUCKET_REGION] = "bucket_region",
	[EXPORT_DB_HOST] = "db_host",
	[EXPORT_DB_PORT] = "db_port",
	[EXPORT_DB_NAME] = "db_name",
	[EXPORT_DB_USER] = "db_user",
	[EXPORT_DB_PASSWORD] = "db_password",
	[EXPORT_ROLE_ARN] = "cross_account_role_arn",
	[EXPORT_EXTERNAL_ID] = "cross_account_external_id",
	[EXPORT_ENDPOINT] = "endpoint",
	[EXPORT_CATALOG] = "catalog",
};

static const char name_characters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";

/* --- checks --- */

struct checked {
	const char *where; /* "ducklings.yaml:3: team 5: ", "team." */
	const char *const *values;
	bool expanded; /* no references are left */
};

static bool is_later(const struct checked *c, enum export_field f)
{
	return !c->expanded && c->values[f] && strstr(c->values[f], "${");
}

static int refuse(const struct checked *c, enum export_field f, const char *why, struct duct_error *err)
{
	return duct_fail(err, DUCT_CONFIG, "%s%s: %s", c->where, export_field_names[f], why);
}

/* The only form that a number without sign has. */
static int64_t whole_number(const char *text, int64_t most)
{
	size_t n = text ? strspn(text, "0123456789") : 0;
	int64_t v = n && n <= 18 && !text[n] && *text != '0' ? strtoll(text, NULL, 10) : -1;
	return v <= most ? v : -1;
}

static int check_names(const struct checked *c, struct duct_error *err)
{
	const char *const *v = c->values;
	if (!v[EXPORT_BUCKET])
		return refuse(c, EXPORT_BUCKET, "the name of a bucket is expected", err);
	if (!is_later(c, EXPORT_BUCKET) && v[EXPORT_BUCKET][strspn(v[EXPORT_BUCKET], name_characters)])
		return refuse(c, EXPORT_BUCKET, "the name of a bucket is expected: letters, digits, . _ and -", err);
	if (v[EXPORT_BUCKET_REGION] && !is_later(c, EXPORT_BUCKET_REGION) &&
	    v[EXPORT_BUCKET_REGION][strspn(v[EXPORT_BUCKET_REGION], name_characters)])
		return refuse(c, EXPORT_BUCKET_REGION, "the name of a region is expected, such as eu-central-1", err);
	if (v[EXPORT_ENDPOINT] && !is_later(c, EXPORT_ENDPOINT) && v[EXPORT_ENDPOINT][strcspn(v[EXPORT_ENDPOINT], "'\"\\ ?#@\n")])
		return refuse(c, EXPORT_ENDPOINT, "the address of an S3 is expected, such as http://minio:9000", err);
	return 0;
}

static int check_catalog(const struct checked *c, struct duct_error *err)
{
	const char *const *v = c->values, *catalog = v[EXPORT_CATALOG];
	if (catalog && (v[EXPORT_DB_HOST] || v[EXPORT_DB_NAME]))
		return refuse(c, EXPORT_CATALOG, "not together with db_host and db_name", err);
	if (!catalog && !v[EXPORT_DB_HOST])
		return refuse(c, EXPORT_DB_HOST, "is missing: db_host and db_name are needed", err);
	if (!catalog && !v[EXPORT_DB_NAME])
		return refuse(c, EXPORT_DB_NAME, "is missing: db_host and db_name are needed", err);
	if (catalog && !is_later(c, EXPORT_CATALOG) && strncmp(catalog, "sqlite:", 7) != 0 && strncmp(catalog, "postgres:", 9) != 0)
		return refuse(c, EXPORT_CATALOG, "sqlite:PATH or postgres:DSN is expected", err);
	if (v[EXPORT_DB_PORT] && !is_later(c, EXPORT_DB_PORT) && whole_number(v[EXPORT_DB_PORT], 65535) < 0)
		return refuse(c, EXPORT_DB_PORT, "a number from 1 to 65535 is expected", err);
	if (v[EXPORT_EXTERNAL_ID] && !v[EXPORT_ROLE_ARN])
		return refuse(c, EXPORT_EXTERNAL_ID, "there is no cross_account_role_arn that it could be for", err);
	return 0;
}

static int check_all(const struct checked *c, struct duct_error *err)
{
	int rc = check_names(c, err);
	return rc ? rc : check_catalog(c, err);
}

/* --- what is worked with --- */

/* A value of a libpq connection string. */
static void put_value(struct duct_buf *to, const char *name, const char *value)
{
	if (!value)
		return;
	duct_buf_printf(to, "%s%s='", to->len > strlen("postgres:") ? " " : "", name);
	for (; *value; value++) {
		if (*value == '\'' || *value == '\\')
			duct_buf_putc(to, '\\');
		duct_buf_putc(to, *value);
	}
	duct_buf_putc(to, '\'');
}

static const char *catalog_of(const char *const *v, struct duct_arena *arena)
{
	AUTO_BUF struct duct_buf dsn = {0};
	if (v[EXPORT_CATALOG])
		return v[EXPORT_CATALOG];
	duct_buf_puts(&dsn, "postgres:");
	put_value(&dsn, "host", v[EXPORT_DB_HOST]);
	put_value(&dsn, "port", v[EXPORT_DB_PORT] ? v[EXPORT_DB_PORT] : "5432");
	put_value(&dsn, "dbname", v[EXPORT_DB_NAME]);
	put_value(&dsn, "user", v[EXPORT_DB_USER]);
	put_value(&dsn, "password", v[EXPORT_DB_PASSWORD]);
	return duct_arena_strdup(arena, dsn.data);
}

static const char *environment(const char *name)
{
	return getenv(name);
}

static bool is_secret(enum export_field f)
{
	return f == EXPORT_DB_PASSWORD || f == EXPORT_CATALOG;
}

static char *seal_name(int64_t team_id, enum export_field f)
{
	return duct_xasprintf("teams/%" PRId64 "/%s", team_id, export_field_names[f]);
}

/* The value as it was given: what is sealed is opened. NULL: it cannot be. */
static const char *opened(const struct export_entry *e, enum export_field f, struct state *state, struct duct_arena *arena,
			  struct duct_error *err)
{
	AUTO_FREE char *name = seal_name(e->team_id, f);
	return e->file || !is_secret(f) ? e->values[f] : state_unseal(state, arena, name, e->values[f], err);
}

static const char *where_of(const struct export_entry *e, struct duct_arena *arena)
{
	AUTO_FREE char *text = e->file ? duct_xasprintf("%s:%d: team %" PRId64 ": ", e->file, e->line, e->team_id)
				       : duct_xasprintf("team %" PRId64 ": ", e->team_id);
	return duct_arena_strdup(arena, text);
}

int export_entry_resolve(const struct export_entry *entry, struct state *state, struct duct_arena *arena, struct export_team *ret,
			 struct duct_error *err)
{
	const char *v[EXPORT_FIELDS] = {0}, *where = where_of(entry, arena);
	for (int f = 0; f < EXPORT_FIELDS; f++) {
		const char *text = entry->values[f] ? opened(entry, (enum export_field)f, state, arena, err) : NULL;
		if (entry->values[f] && (!text || flow_env_expand(&v[f], arena, text, environment, err)))
			return duct_wrap(err, "%s%s", where, export_field_names[f]);
		if (v[f] && !*v[f])
			v[f] = NULL;
	}
	const struct checked c = {where, v, true};
	if (check_all(&c, err))
		return -(int)err->class;
	*ret = (struct export_team){
		.team_id = entry->team_id,
		.bucket = v[EXPORT_BUCKET],
		.region = v[EXPORT_BUCKET_REGION],
		.endpoint = v[EXPORT_ENDPOINT],
		.catalog = catalog_of(v, arena),
		.role_arn = v[EXPORT_ROLE_ARN],
		.external_id = v[EXPORT_EXTERNAL_ID],
	};
	return 0;
}

/* --- as the API shows and takes them --- */

static bool is_reference(const char *text)
{
	size_t n = strlen(text);
	return n > 3 && strncmp(text, "${", 2) == 0 && strchr(text, '}') == text + n - 1;
}

static char *hide(enum export_field f, const char *text)
{
	if (f == EXPORT_DB_PASSWORD)
		return duct_xstrdup(is_reference(text) ? text : "***");
	if (strncmp(text, "postgres:", 9) != 0)
		return duct_xstrdup(text);
	AUTO_FREE char *dsn = duct_dsn_redact(text + 9);
	return duct_xasprintf("postgres:%s", dsn);
}

const char *export_entry_shown(const struct export_entry *entry, enum export_field field, struct state *state,
			       struct duct_arena *arena)
{
	struct duct_error ignored;
	const char *text = entry->values[field] ? opened(entry, field, state, arena, &ignored) : NULL;
	if (!entry->values[field])
		return "";
	if (!text) /* another key than it was sealed with */
		return "***";
	if (!is_secret(field))
		return text;
	AUTO_FREE char *hidden = hide(field, text);
	return duct_arena_strdup(arena, hidden);
}

/* The value at rest. */
static const char *at_rest(enum export_field f, const char *value, int64_t team_id, const struct export_entry *stored,
			   struct state *state, struct duct_arena *arena, struct duct_error *err)
{
	AUTO_FREE char *name = seal_name(team_id, f);
	AUTO_FREE char *hidden = is_secret(f) ? hide(f, value) : NULL;
	if (!is_secret(f))
		return value;
	if (stored && stored->values[f] && strcmp(value, export_entry_shown(stored, f, state, arena)) == 0)
		return stored->values[f];
	if (strstr(value, "***")) {
		(void)duct_fail(err, DUCT_CONFIG, "team.%s: *** stands for a secret that is stored, and there is none like this",
				export_field_names[f]);
		return NULL;
	}
	return strcmp(hidden, value) == 0 ? value : state_seal(state, arena, name, value, err);
}

static const char *known_later(const char *name)
{
	(void)name;
	return "";
}

static int check_references(const char *const *values, struct duct_arena *arena, struct duct_error *err)
{
	/* Whether they can be followed is for whoever works to see; how they are written is seen here. */
	for (int f = 0; f < EXPORT_FIELDS; f++) {
		const char *ignored;
		if (values[f] && flow_env_expand(&ignored, arena, values[f], known_later, err))
			return duct_wrap(err, "team.%s", export_field_names[f]);
	}
	return 0;
}

int export_entry_seal(const char *const values[EXPORT_FIELDS], const struct export_entry *stored, struct state *state,
		      struct duct_arena *arena, int64_t *ret_team, const char **ret, struct duct_error *err)
{
	const struct checked c = {"team.", values, false};
	int64_t id = whole_number(values[EXPORT_TEAM_ID], INT64_MAX);
	if (id < 0)
		return refuse(&c, EXPORT_TEAM_ID, "a whole number above 0 is expected", err);
	if (check_all(&c, err) || check_references(values, arena, err))
		return -(int)err->class;
	json_t *object = json_object();
	for (int f = 0; f < EXPORT_FIELDS; f++) {
		const char *text = values[f] ? at_rest((enum export_field)f, values[f], id, stored, state, arena, err) : NULL;
		if (values[f] && !text) {
			json_decref(object);
			return -(int)err->class;
		}
		if (text)
			json_object_set_new(object, export_field_names[f], json_string(text));
	}
	AUTO_FREE char *text = json_dumps(object, JSON_COMPACT | JSON_PRESERVE_ORDER);
	json_decref(object);
	*ret = duct_arena_strdup(arena, text ? text : "{}");
	*ret_team = id;
	return 0;
}
