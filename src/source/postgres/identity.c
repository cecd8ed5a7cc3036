/* Whose positions are these, and is anything missing: see identity.h. */
#include "source/postgres/identity.h"

#include "base/buf.h"
#include "record/position.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static void json_member(struct duct_buf *b, const char *key, const char *value)
{
	duct_buf_printf(b, "%s\"%s\":", b->len > 1 ? "," : "", key);
	duct_buf_json_string(b, value, strlen(value));
}

int postgres_identity_write(const struct postgres_identity *id, char *to, size_t size, struct duct_error *err)
{
	AUTO_BUF struct duct_buf b = {0};
	char lsn[DUCT_LSN_LEN];
	duct_buf_putc(&b, '{');
	json_member(&b, "system", id->system_id);
	json_member(&b, "database", id->database);
	json_member(&b, "slot", id->slot);
	duct_buf_printf(&b, ",\"database_oid\":%u,\"timeline\":%d", id->database_oid, id->timeline);
	for (size_t i = 0; i < id->nfences; i++) {
		if (i && id->fences[i].lsn == id->fences[i - 1].lsn) {
			duct_buf_printf(&b, ",%u", id->fences[i].oid);
			continue;
		}
		duct_buf_puts(&b, i ? "],[" : ",\"fences\":[[");
		duct_buf_printf(&b, "\"%s\",%u", duct_lsn_format(lsn, id->fences[i].lsn), id->fences[i].oid);
	}
	if (id->nfences)
		duct_buf_puts(&b, "]]");
	duct_buf_putc(&b, '}');
	if (b.len >= size)
		return duct_fail(err, DUCT_FATAL, "the identity of the source takes %zu bytes, %zu are there", b.len, size);
	memcpy(to, b.data, b.len + 1);
	return 0;
}

static void copy_text(char *to, size_t size, const json_t *object, const char *key)
{
	const char *s = json_string_value(json_object_get(object, key));
	snprintf(to, size, "%s", s ? s : "");
}

/* [[position, oid, oid ...] ...] */
static int read_fences(struct postgres_identity *id, const json_t *groups, struct duct_error *err)
{
	for (size_t i = 0; i < json_array_size(groups); i++) {
		const json_t *group = json_array_get(groups, i);
		const char *text = json_string_value(json_array_get(group, 0));
		uint64_t lsn;
		int r = duct_lsn_parse(text ? text : "", &lsn, err);
		if (r)
			return r;
		for (size_t k = 1; k < json_array_size(group); k++) {
			if (id->nfences == POSTGRES_FENCED_MAX)
				return duct_fail(err, DUCT_FATAL, "more fences than fit");
			id->fences[id->nfences++] =
				(struct postgres_fence){(uint32_t)json_integer_value(json_array_get(group, k)), lsn};
		}
	}
	return 0;
}

int postgres_identity_read(struct postgres_identity *ret, const char *json, struct duct_error *err)
{
	*ret = (struct postgres_identity){0};
	if (!json[0])
		return 0;
	json_error_t why;
	json_t *o = json_loads(json, 0, &why);
	if (!json_is_object(o)) {
		json_decref(o);
		return duct_fail(err, DUCT_FATAL, "the identity stored by the destination cannot be read: %s", why.text);
	}
	copy_text(ret->system_id, sizeof ret->system_id, o, "system");
	copy_text(ret->database, sizeof ret->database, o, "database");
	copy_text(ret->slot, sizeof ret->slot, o, "slot");
	ret->database_oid = (uint32_t)json_integer_value(json_object_get(o, "database_oid"));
	ret->timeline = (int)json_integer_value(json_object_get(o, "timeline"));
	int r = read_fences(ret, json_object_get(o, "fences"), err);
	json_decref(o);
	return r ? duct_fail(err, DUCT_FATAL, "the identity stored by the destination has a bad fence") : 0;
}

void postgres_identity_prune(struct postgres_identity *id, uint64_t durable_lsn)
{
	size_t n = 0;
	for (size_t i = 0; i < id->nfences; i++)
		if (id->fences[i].lsn > durable_lsn)
			id->fences[n++] = id->fences[i];
	id->nfences = n;
}

int postgres_identity_compare(const struct postgres_identity *stored, const struct postgres_identity *now, struct duct_error *err)
{
	if (stored->system_id[0] && strcmp(stored->system_id, now->system_id) != 0)
		return duct_fail(err, DUCT_CONFIG,
				 "another server: the destination's position belongs to system %s, the dsn leads to system "
				 "%s (a new cluster, an upgraded or a logically restored one); positions of one mean nothing "
				 "on the other: correct the dsn, or start a new flow with its own copy",
				 stored->system_id, now->system_id);
	if (stored->database_oid && stored->database_oid != now->database_oid)
		return duct_fail(err, DUCT_CONFIG,
				 "another database: the destination's position belongs to database \"%s\" (oid %u), the dsn "
				 "leads to \"%s\" (oid %u): correct the dsn, or start a new flow with its own copy",
				 stored->database, stored->database_oid, now->database, now->database_oid);
	if (stored->slot[0] && strcmp(stored->slot, now->slot) != 0)
		return duct_fail(err, DUCT_CONFIG,
				 "another slot: the destination's position was reached through slot \"%s\", the options name "
				 "\"%s\": correct the option slot, or start a new flow with its own copy",
				 stored->slot, now->slot);
	return 0;
}

int postgres_same_source(const char *a, const char *b, struct duct_error *err)
{
	struct postgres_identity x, y;
	int rc = postgres_identity_read(&x, a, err);
	rc = rc ? rc : postgres_identity_read(&y, b, err);
	if (rc)
		return rc;
	if ((!x.system_id[0] || !y.system_id[0] || strcmp(x.system_id, y.system_id) == 0) &&
	    (!x.database_oid || !y.database_oid || x.database_oid == y.database_oid) &&
	    (!x.slot[0] || !y.slot[0] || strcmp(x.slot, y.slot) == 0))
		return 0;
	return duct_fail(
		err, DUCT_CONFIG,
		"one is of system %s, database \"%s\" (oid %u), slot \"%s\", the other of system %s, database \"%s\" (oid %u), slot "
		"\"%s\"",
		x.system_id, x.database, x.database_oid, x.slot, y.system_id, y.database, y.database_oid, y.slot);
}

int postgres_timeline_check(const char *history, int tli, int now, uint64_t lsn, uint64_t noted, struct duct_error *err)
{
	char a[DUCT_LSN_LEN], b[DUCT_LSN_LEN];
	bool ancestor = false;
	if (now < tli)
		return duct_fail(err, DUCT_CONFIG,
				 "the source is on timeline %d, the destination's position %s on the later timeline %d: the "
				 "source was restored to an older state or an old primary came back; connect to the right "
				 "server or copy afresh",
				 now, duct_lsn_format(a, lsn), tli);
	for (const char *line = history; line && *line;) {
		unsigned id, hi, lo;
		bool read = sscanf(line, "%u %X/%X", &id, &hi, &lo) == 3;
		uint64_t left = read ? (uint64_t)hi << 32 | lo : 0;
		ancestor |= read && (int)id == tli;
		if (read && ancestor && lsn <= left)
			return 0;
		if (read && ancestor && noted <= left)
			return duct_fail(err, DUCT_CONFIG,
					 "the destination has changes up to %s of timeline %u, but the server left that "
					 "timeline at %s (failover or restore): it has rows that the source lost; copy afresh",
					 duct_lsn_format(a, lsn), id, duct_lsn_format(b, left));
		line = strchr(line, '\n');
		line += line != NULL;
	}
	if (ancestor) /* we have been on the present one */
		return 0;
	return duct_fail(err, DUCT_CONFIG,
			 "the destination's position is on timeline %d, which is no ancestor of the server's timeline %d: "
			 "the source was restored from elsewhere; copy afresh",
			 tli, now);
}

int postgres_gap_check(const struct postgres_gap_facts *f, struct duct_error *err)
{
	char stored[DUCT_LSN_LEN], other[DUCT_LSN_LEN], noted[DUCT_LSN_LEN];
	duct_lsn_format(stored, f->stored);
	if (f->stored > f->flush)
		return duct_fail(err, DUCT_CONFIG,
				 "the source is older than the destination: the destination has changes up to %s, the "
				 "server's log ends at %s; the source was restored to an older state and the destination has "
				 "rows that the source lost: copy afresh",
				 stored, duct_lsn_format(other, f->flush));
	if (f->confirmed <= f->stored)
		return 0;
	duct_lsn_format(other, f->confirmed);
	if (f->last_lsn > f->stored)
		(void)duct_fail(err, DUCT_CONFIG,
				"the destination was restored to an older state: it is at %s, but we had confirmed %s to the "
				"server, and slot \"%s\" begins at %s; the changes between are lost to it: copy afresh, or go "
				"on without them with " POSTGRES_ACCEPT_GAP,
				stored, duct_lsn_format(noted, f->last_lsn), f->slot, other);
	else if (f->restart >= f->stored)
		(void)duct_fail(
			err, DUCT_CONFIG,
			"slot \"%s\" was made again (or advanced) by somebody else: it begins at %s, after the destination's position %s; the changes "
			"between are lost to it: copy afresh, or go on without them with " POSTGRES_ACCEPT_GAP,
			f->slot, other, stored);
	else
		(void)duct_fail(err, DUCT_CONFIG,
				"slot \"%s\" was advanced by somebody else to %s, past the destination's position %s (or the "
				"destination was restored to an older state); the changes between are lost to it: copy afresh, "
				"or go on without them with " POSTGRES_ACCEPT_GAP,
				f->slot, other, stored);
	return 1;
}
