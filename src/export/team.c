/* The file of teams. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/findings.h"
#include "export/export.h"
#include "flow/flow_yaml.h"
#include "net/s3_options.h"

struct fields {
	const char *team_id, *bucket, *bucket_region, *db_host, *db_port, *db_name, *db_user, *db_password, *cross_account_role_arn,
		*cross_account_external_id, *endpoint, *catalog;
};
static const struct {
	const char *name;
	size_t at;
} names[] = {
#define FIELD(x) \
	{ \
#x, offsetof(struct fields, x) \
	}
	FIELD(team_id),
	FIELD(bucket),
	FIELD(bucket_region),
	FIELD(db_host),
	FIELD(db_port),
	FIELD(db_name),
	FIELD(db_user),
	FIELD(db_password),
	FIELD(endpoint),
	FIELD(catalog),
	FIELD(cross_account_role_arn),
	FIELD(cross_account_external_id),
#undef FIELD
};

static const char *environment(const char *name)
{
	return getenv(name);
}

static int read_fields(const char *path, const struct flow_node *node, struct fields *ret, struct duct_error *err)
{
	if (node->kind != FLOW_NODE_MAP)
		return duct_fail(err, DUCT_CONFIG, "%s:%d: a team is expected: team_id, bucket, ...", path, node->line);
	for (const struct flow_node *f = node->first; f; f = f->next) {
		size_t i = 0;
		while (i < DUCT_LEN(names) && strcmp(names[i].name, f->key) != 0)
			i++;
		if (i == DUCT_LEN(names))
			return duct_fail(err, DUCT_CONFIG, "%s:%d: \"%.60s\": there is no such field", path, f->line, f->key);
		if (f->kind != FLOW_NODE_TEXT && f->kind != FLOW_NODE_NULL)
			return duct_fail(err, DUCT_CONFIG, "%s:%d: \"%s\": a text is expected", path, f->line, f->key);
		if (f->kind == FLOW_NODE_TEXT && *f->text)
			*(const char **)((char *)ret + names[i].at) = f->text;
	}
	return 0;
}

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

static const char *catalog_of(const struct fields *f, struct duct_arena *arena)
{
	AUTO_BUF struct duct_buf dsn = {0};
	if (f->catalog)
		return f->catalog;
	duct_buf_puts(&dsn, "postgres:");
	put_value(&dsn, "host", f->db_host);
	put_value(&dsn, "port", f->db_port ? f->db_port : "5432");
	put_value(&dsn, "dbname", f->db_name);
	put_value(&dsn, "user", f->db_user);
	put_value(&dsn, "password", f->db_password);
	return duct_arena_strdup(arena, dsn.data);
}

static int take_team(const char *path, int line, const struct fields *f, struct duct_arena *arena, struct export_team *ret,
		     struct duct_error *err)
{
	char *end = NULL;
	long long id = f->team_id ? strtoll(f->team_id, &end, 10) : 0;
	if (id <= 0 || !end || *end)
		return duct_fail(err, DUCT_CONFIG, "%s:%d: team_id: a whole number above 0 is expected", path, line);
	if (!f->bucket || strcspn(f->bucket, "/'\"\\ ") != strlen(f->bucket))
		return duct_fail(err, DUCT_CONFIG, "%s:%d: team %lld: bucket: the name of a bucket is expected", path, line, id);
	if (f->catalog && (f->db_host || f->db_name))
		return duct_fail(err, DUCT_CONFIG, "%s:%d: team %lld: catalog or db_host and db_name, not both", path, line, id);
	if (!f->catalog && (!f->db_host || !f->db_name))
		return duct_fail(err, DUCT_CONFIG, "%s:%d: team %lld: db_host and db_name are needed", path, line, id);
	*ret = (struct export_team){
		.team_id = id,
		.bucket = f->bucket,
		.region = f->bucket_region,
		.endpoint = f->endpoint,
		.catalog = catalog_of(f, arena),
		.role_arn = f->cross_account_role_arn,
		.external_id = f->cross_account_external_id,
	};
	return 0;
}

static int take_teams(const char *path, const struct flow_node *root, struct duct_arena *arena, struct export_team **ret,
		      size_t *ret_n, struct duct_error *err)
{
	size_t n = 0;
	if (root->kind != FLOW_NODE_LIST && root->kind != FLOW_NODE_NULL)
		return duct_fail(err, DUCT_CONFIG, "%s: a list of teams is expected", path);
	for (const struct flow_node *node = root->first; node; node = node->next)
		n++;
	struct export_team *teams = duct_arena_zalloc(arena, (n + 1) * sizeof *teams);
	n = 0;
	for (const struct flow_node *node = root->first; node; node = node->next) {
		struct fields fields = {0};
		if (read_fields(path, node, &fields, err) || take_team(path, node->line, &fields, arena, &teams[n], err))
			return -(int)err->class;
		for (size_t i = 0; i < n; i++)
			if (teams[i].team_id == teams[n].team_id)
				return duct_fail(err, DUCT_CONFIG, "%s:%d: team %" PRId64 " is there twice", path, node->line,
						 teams[n].team_id);
		n++;
	}
	*ret = teams;
	*ret_n = n;
	return 0;
}

static int read_file(const char *path, struct duct_buf *to, struct duct_error *err)
{
	FILE *file = fopen(path, "re");
	if (!file)
		return duct_fail(err, DUCT_CONFIG, "teams file \"%s\": %m: name it with --registry or DUCTSTREAM_DUCKLINGS", path);
	for (size_t n = 1; n && to->len <= FLOW_YAML_MAX_BYTES;) {
		n = fread(duct_buf_room(to, 8192), 1, 8192, file);
		to->len += n;
	}
	int failed = ferror(file);
	fclose(file);
	return failed ? duct_fail(err, DUCT_CONFIG, "teams file \"%s\" cannot be read", path) : 0;
}

int export_teams_read(const char *path, struct duct_arena *arena, struct export_team **ret, size_t *ret_n, struct duct_error *err)
{
	struct flow_node *root;
	AUTO_BUF struct duct_buf text = {0};
	AUTO_FINDINGS struct duct_findings findings = {0};
	if (read_file(path, &text, err) ||
	    flow_yaml_parse(&root, arena, text.data ? text.data : "", text.len, path, environment, &findings, err))
		return -(int)err->class;
	if (findings.n) {
		*err = findings.list[0];
		return -(int)err->class;
	}
	return take_teams(path, root, arena, ret, ret_n, err);
}
