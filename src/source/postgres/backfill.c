/* Back in time: tables that are to be copied again, and changes that are to come again. See source.h. */
#include "source/postgres/postgres.h"

#include "base/killpoint.h"
#include "base/mem.h"
#include "options/options.h"
#include "pg/server.h"

#include <string.h>

static bool is_named(const struct pg_published *t, const char *name)
{
	const char *bare = strncmp(name, "public.", 7) == 0 ? name + 7 : name;
	size_t n = strlen(t->schema);
	if (strcmp(t->schema, "public") == 0 && strcmp(t->name, bare) == 0)
		return true;
	return strncmp(name, t->schema, n) == 0 && name[n] == '.' && strcmp(name + n + 1, t->name) == 0;
}

static void forget(struct postgres_source *src, uint32_t oid)
{
	struct postgres_table *t = postgres_group_table(&src->group, oid, true);
	t->known = t->asked = false;
	src->group.unknown_seen = true;
}

/* Named twice, it is copied once. */
static void want(struct postgres_source *src, const struct pg_published *t)
{
	struct postgres_backfill *b = &src->backfill;
	for (size_t i = 0; i < b->n; i++)
		if (b->tables[i].oid == t->oid)
			return;
	b->tables = duct_xrealloc(b->tables, (b->n + 1) * sizeof *b->tables);
	b->tables[b->n++] = (struct postgres_backfill_table){t->oid, duct_xasprintf("%s.%s", t->schema, t->name)};
}

/* What is kept is kept by table, so few are published at once; without a common moment few begin at once. */
static size_t step_size(const struct postgres_source *src)
{
	return (size_t)src->config->snapshot_workers;
}

int postgres_backfill_next(struct postgres_source *src)
{
	struct postgres_backfill *b = &src->backfill;
	postgres_identity_prune(&src->identity, src->durable.lsn);
	size_t room = POSTGRES_FENCED_MAX - src->identity.nfences, left = b->n - b->next;
	size_t n = !src->config->snapshot_consistent && left > step_size(src) ? step_size(src) : left;
	if (!room)
		return 1;
	for (size_t i = 0; i < n && i < room; i++, b->next++) {
		forget(src, b->tables[b->next].oid);
		free(b->tables[b->next].name);
	}
	return 0;
}

static int not_published(const struct postgres_source *src, const char *what, const char *name,
			 const struct pg_published_list *list, struct duct_error *err)
{
	AUTO_FREE const char **names = duct_xcalloc(list->ntables + 1, sizeof *names);
	for (size_t i = 0; i < list->ntables; i++)
		names[i] = list->tables[i].name;
	const char *dot = strchr(name, '.'), *near = duct_nearest(dot ? dot + 1 : name, names);
	return duct_fail(err, DUCT_CONFIG, "%s \"%.100s\" is not in publication \"%s\"%s%s%s", what, name, src->config->publication,
			 near ? ": did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

static int want_named(struct postgres_source *src, const struct pg_published_list *list, const char *const *names, bool schemas,
		      struct duct_error *err)
{
	for (; names && *names; names++) {
		size_t found = 0;
		for (size_t i = 0; i < list->ntables; i++) {
			const struct pg_published *t = &list->tables[i];
			if (schemas ? strcmp(t->schema, *names) != 0 : !is_named(t, *names))
				continue;
			want(src, t);
			found++;
		}
		if (!found)
			return not_published(src, schemas ? "schema" : "table", *names, list, err);
	}
	return 0;
}

int postgres_copy_again(void *source, const char *const *tables, const char *const *schemas, struct duct_error *err)
{
	struct postgres_source *src = source;
	const char *const publications[] = {src->config->publication, NULL};
	struct pg_published_list *list;
	int r = pg_published_read(&list, src->sql, publications, err);
	if (r)
		return r;
	r = want_named(src, list, tables, false, err);
	r = r ? r : want_named(src, list, schemas, true, err);
	pg_published_free(list);
	return r ? r : postgres_snapshot_state_begin(src, err);
}

int postgres_step_begin(void *source, struct duct_snapshot *snap, size_t from, size_t to, struct duct_error *err)
{
	struct postgres_source *src = source;
	struct postgres_identity id = src->identity;
	for (size_t i = 0; i < to; i++)
		id.fences[id.nfences++] = (struct postgres_fence){snap->relations[i]->oid, snap->pos.lsn};
	int r = postgres_identity_write(&id, snap->source_identity, sizeof snap->source_identity, err);
	return r ? r : postgres_snapshot_state_set(src, snap, from, to, false, err);
}

int postgres_step_done(void *source, struct duct_snapshot *snap, size_t from, size_t to, struct duct_error *err)
{
	duct_kill_point("backfill-published");
	int r = postgres_snapshot_state_set(source, snap, from, to, true, err);
	duct_kill_point("backfill-kept");
	return r;
}

/* The server would begin at its own position without a word. */
int postgres_go_back(struct postgres_source *src, const struct pg_slot *slot, uint64_t lsn, struct duct_error *err)
{
	char wanted[DUCT_LSN_LEN], has[DUCT_LSN_LEN];
	if (!slot->exists || lsn < slot->confirmed_lsn)
		return duct_fail(
			err, DUCT_CONFIG,
			"slot \"%s\" has nothing before %s (its confirmed_flush_lsn), a replay from %s is not possible: copy the tables "
			"again (-mode backfill)",
			src->config->slot, duct_lsn_format(has, slot->exists ? slot->confirmed_lsn : src->start_lsn),
			duct_lsn_format(wanted, lsn));
	src->start_lsn = lsn;
	return 0;
}
