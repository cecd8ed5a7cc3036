/*
 * Tables that are copied again: what the lake has of them stays as it is until then, and the source drops their changes up
 * to the copy's position. See ducklake.h.
 */
#include "destination/ducklake/ducklake.h"
#include "destination/recopy.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool mirror_state_is(const char *state, const char *name, int *ret_recopies)
{
	size_t n = strlen(name);
	if (strncmp(state, name, n) != 0 || (state[n] && state[n] != ' '))
		return false;
	if (ret_recopies)
		*ret_recopies = atoi(state + n);
	return true;
}

static void put_state(char to[MIRROR_STATE_LEN], const char *name, int recopies)
{
	if (recopies)
		snprintf(to, MIRROR_STATE_LEN, "%s %d", name, recopies);
	else
		snprintf(to, MIRROR_STATE_LEN, "%s", name);
}

void mirror_state(const struct mirror *m, char to[MIRROR_STATE_LEN])
{
	if (m->copy_again)
		put_state(to, MIRROR_COPY_AGAIN, m->recopies);
	else if (m->incomplete)
		put_state(to, MIRROR_INCOMPLETE, 0);
	else
		put_state(to, m->recopies ? MIRROR_COPIED_AGAIN : MIRROR_STREAMING, m->recopies);
}

void mirror_read_state(struct mirror *m, const char *state)
{
	m->incomplete = strcmp(state, MIRROR_INCOMPLETE) == 0;
	m->copy_again = mirror_state_is(state, MIRROR_COPY_AGAIN, &m->recopies);
	(void)mirror_state_is(state, MIRROR_COPIED_AGAIN, &m->recopies);
}

int mirror_give_up(struct ducklake *d, const struct mirror *m, const struct duct_relation *rel, struct duct_error *err,
		   const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	int rc = destination_copy_again(err, rel, d->load || m->incomplete || m->table_id < 0, m->recopies, fmt, args);
	va_end(args);
	if (rc != -DUCT_RETRY)
		return rc;
	free(d->given_up.why);
	d->given_up.why = duct_xstrdup(err->message);
	d->given_up.oid = m->oid;
	d->given_up.recopies = m->recopies + 1;
	return rc;
}

int mirror_drift(const struct duct_relation *rel, const char *key, const char *what, struct duct_error *err)
{
	return duct_fail(err, DUCT_FATAL, "lake and source differ at \"%s\".\"%s\" key (%s): %s; " MIRROR_REMEDY, rel->schema,
			 rel->name, key, what, rel->schema, rel->name);
}

int mirror_lacks_value(const struct duct_relation *rel, const char *column, struct duct_error *err)
{
	return duct_fail(
		err, DUCT_DATA,
		"column \"%s\" of \"%s\".\"%s\": the source did not send an unchanged value that the lake does not have: " MIRROR_REMEDY,
		column, rel->schema, rel->name, rel->schema, rel->name);
}

int group_give_up(struct ducklake *d, struct duct_error *err)
{
	uint32_t oid = d->given_up.oid;
	d->given_up.oid = 0;
	if (!oid)
		return -(int)err->class;
	group_reset(d);
	mirrors_free(d);
	char state[MIRROR_STATE_LEN];
	put_state(state, MIRROR_COPY_AGAIN, d->given_up.recopies);
	int rc = lake_set_relation_state(d->lake, oid, state, err);
	/* What must be copied is settled when the flow opens, so it opens again. */
	return rc < 0 ? rc : duct_fail(err, DUCT_RETRY, "%s", d->given_up.why);
}

static const struct lake_relation *relation_of(const struct ducklake *d, int64_t table_id)
{
	size_t n;
	const struct lake_relation *rows = lake_relations(d->lake, &n);
	for (size_t i = 0; i < n; i++)
		if (rows[i].table_id == table_id && strcmp(rows[i].state, MIRROR_GONE) != 0)
			return &rows[i];
	return NULL;
}

int ducklake_judge_note(const struct ducklake *d, const struct lake_change_note *note, struct duct_error *err)
{
	const struct lake_relation *row = relation_of(d, note->table_id);
	if (!(note->changes & LAKE_CHANGED_ROWS) || d->config->foreign_changes != FOREIGN_STOP)
		return 0;
	if (!row || mirror_state_is(row->state, MIRROR_COPY_AGAIN, NULL))
		return 0; /* its rows go with the copy */
	return duct_fail(err, DUCT_FATAL,
			 "rows of mirrored lake table \"%s\".\"%s\" were changed by \"%s\" in snapshot %lld: " MIRROR_REMEDY
			 ", or set the destination's option foreign_changes to share",
			 row->source_schema, row->source_name, note->author[0] ? note->author : "another client",
			 (long long)note->snapshot_id, row->source_schema, row->source_name);
}
