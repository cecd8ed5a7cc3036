/* What is in a publication, and what could be: see publication.h. */
#include "pg/publication.h"

#include "base/mem.h"

#include <string.h>

/* $1: the publication. */
#define MEMBER \
	"exists (select from pg_catalog.pg_publication_rel x join pg_catalog.pg_publication p on p.oid = x.prpubid " \
	"where p.pubname = $1 and x.prrelid = c.oid)"
#define TABLES \
	"select n.nspname, c.relname, c.oid, " MEMBER ", c.relpersistence = 'p' from pg_catalog.pg_class c " \
	"join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.relkind in ('r', 'p') "

static void choice_done(struct pg_choice *choice)
{
	free(choice->schema);
	free(choice->name);
}

void pg_choices_done(struct pg_choices *choices)
{
	for (size_t i = 0; i < choices->n; i++)
		choice_done(&choices->list[i]);
	free(choices->list);
	*choices = (struct pg_choices){0};
}

static bool among(const struct pg_choice *list, size_t n, uint32_t oid)
{
	for (size_t i = 0; i < n; i++)
		if (list[i].oid == oid)
			return true;
	return false;
}

/* Rows of TABLES, which are different tables. */
static void add(struct pg_choices *to, const PGresult *res)
{
	size_t before = to->n;
	for (int i = 0; i < PQntuples(res); i++) {
		uint32_t oid = pg_get_oid(res, i, 2);
		if (among(to->list, before, oid))
			continue;
		to->list = duct_grow(to->list, &to->cap, to->n + 1, sizeof *to->list);
		to->list[to->n++] = (struct pg_choice){
			.schema = duct_xstrdup(PQgetvalue(res, i, 0)),
			.name = duct_xstrdup(PQgetvalue(res, i, 1)),
			.oid = oid,
			.member = pg_get_bool(res, i, 3),
			.permanent = pg_get_bool(res, i, 4),
		};
	}
}

int pg_choose_table(struct pg_choices *to, struct pg_session *session, const char *publication, const char *name,
		    struct duct_error *err)
{
	static const char *const ways[] = {TABLES "and n.nspname || '.' || c.relname = $2",
					   TABLES "and c.oid = pg_catalog.to_regclass($2)"};
	AUTO_FREE char *whole = strchr(name, '.') ? duct_xstrdup(name) : duct_xasprintf("public.%s", name);
	const char *const params[] = {publication, whole};
	for (size_t i = 0; i < DUCT_LEN(ways); i++) {
		AUTO_PGRESULT PGresult *res = NULL;
		int rc = pg_query(session, ways[i], 2, params, &res, err);
		if (rc == -DUCT_RETRY || rc == -DUCT_CANCELLED) /* else SQL cannot read it as a name */
			return rc;
		if (rc == 0 && PQntuples(res) == 1) {
			add(to, res);
			return 1;
		}
	}
	return 0;
}

int pg_choose_schema(struct pg_choices *to, struct pg_session *session, const char *publication, const char *schema,
		     const char *own_schema, const char *own_table, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	const char *const params[] = {publication, schema, own_schema, own_table};
	int rc = pg_query(session,
			  TABLES "and c.relpersistence = 'p' and not c.relispartition and n.nspname = coalesce($2, n.nspname) "
				 "and c.oid >= 16384 "
				 "and not (n.nspname = $3 and c.relname = $4) order by 1, 2",
			  4, params, &res, err);
	if (rc == 0)
		add(to, res);
	return rc;
}

int pg_choose_members(struct pg_choices *to, struct pg_session *session, const char *publication, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	int rc = pg_query(session, TABLES "and " MEMBER " order by 1, 2", 1, &publication, &res, err);
	if (rc == 0)
		add(to, res);
	return rc;
}

void pg_choices_keep(struct pg_choices *choices, bool (*wanted)(const void *arg, const struct pg_choice *choice), const void *arg)
{
	size_t kept = 0;
	for (size_t i = 0; i < choices->n; i++) {
		if (wanted(arg, &choices->list[i]))
			choices->list[kept++] = choices->list[i];
		else
			choice_done(&choices->list[i]);
	}
	choices->n = kept;
}

static bool not_among(const void *arg, const struct pg_choice *choice)
{
	const struct pg_choices *others = arg;
	return !among(others->list, others->n, choice->oid);
}

void pg_choices_without(struct pg_choices *choices, const struct pg_choices *others)
{
	pg_choices_keep(choices, not_among, others);
}

size_t pg_choices_put(struct duct_buf *sql, const char *verb, const char *publication, const char *what,
		      const struct pg_choices *choices, bool members)
{
	size_t n = 0;
	for (size_t i = 0; i < choices->n; i++) {
		const struct pg_choice *c = &choices->list[i];
		if (c->member != members)
			continue;
		if (n++ == 0) {
			duct_buf_printf(sql, "%s publication ", verb);
			duct_buf_sql_ident(sql, publication);
			duct_buf_printf(sql, " %s ", what);
		} else {
			duct_buf_puts(sql, ", ");
		}
		duct_buf_sql_ident(sql, c->schema);
		duct_buf_putc(sql, '.');
		duct_buf_sql_ident(sql, c->name);
	}
	return n;
}
