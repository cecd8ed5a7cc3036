/* `ductstream check`: looks at everything that could stop a flow later, changes nothing. */
#include "source/postgres/probe.h"

#include "base/buf.h"
#include "base/mem.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

void probe_say(struct probe *p, enum duct_finding level, const char *remedy, const char *fmt, ...)
{
	char what[1024];
	va_list args;
	va_start(args, fmt);
	vsnprintf(what, sizeof what, fmt, args);
	va_end(args);
	p->report(p->arg, level, what, remedy);
}

static void check(struct probe *p, bool ok, enum duct_finding otherwise, const char *what, const char *remedy)
{
	p->report(p->arg, ok ? DUCT_FINDING_OK : otherwise, what, ok ? NULL : remedy);
}

/* --- server --- */

/* Minor releases in which a concurrent ALTER PUBLICATION could lose rows or exhaust memory. */
static bool bad_minor(int version)
{
	return version == 170005 || version == 160009 || version == 150013 || version == 140018 || version == 130021;
}

static void probe_server(struct probe *p)
{
	const struct pg_server *s = &p->src.server;
	char text[256];
	probe_say(p, DUCT_FINDING_OK, NULL, "connected to \"%s\", PostgreSQL %d.%d, as \"%s\"", p->src.sql->where,
		  s->version / 10000, s->version % 10000, s->user);
	check(p, s->version >= 140000, DUCT_FINDING_WARN, "server version",
	      "before 14 the stream is slower: text form, and large transactions are sent only when they commit");
	if (bad_minor(s->version))
		probe_say(p, DUCT_FINDING_WARN, "update to 17.6, 16.10, 15.14, 14.19, 13.22 or later",
			  "this minor release has a fault in logical decoding with concurrent publication changes");
	snprintf(text, sizeof text, "wal_level is %s", s->wal_level);
	check(p, strcmp(s->wal_level, "logical") == 0, DUCT_FINDING_ERROR, text,
	      "ALTER SYSTEM SET wal_level = logical, then restart the server");
	snprintf(text, sizeof text, "replication slots: %d of %d in use", s->used_slots, s->max_slots);
	check(p, p->slot.exists || s->used_slots < s->max_slots, DUCT_FINDING_ERROR, text,
	      "drop an unused slot or raise max_replication_slots");
	snprintf(text, sizeof text, "WAL senders: %d of %d in use", s->used_senders, s->max_senders);
	check(p, s->used_senders < s->max_senders, DUCT_FINDING_ERROR, text, "end one or raise max_wal_senders");
	snprintf(text, sizeof text, "role \"%s\" may replicate", s->user);
	check(p, s->can_replicate, DUCT_FINDING_ERROR, text, "ALTER ROLE ... REPLICATION (managed services: their own role)");
	check(p, !s->fsync_off, DUCT_FINDING_WARN, "fsync of the source",
	      "fsync is off: after a crash of the host the source may have lost what the lake has");
	if (s->max_slot_wal_keep_mb >= 0)
		probe_say(p, DUCT_FINDING_WARN, "a flow that is stopped for longer loses its slot: raise it or watch the lag",
			  "max_slot_wal_keep_size is %lld MB", (long long)s->max_slot_wal_keep_mb);
	if (s->idle_slot_timeout_s > 0)
		probe_say(p, DUCT_FINDING_WARN,
			  "a flow that is stopped for longer loses its slot: set it to 0, or start the flow in time",
			  "idle_replication_slot_timeout is %lld s", (long long)s->idle_slot_timeout_s);
}

static void probe_replication(struct probe *p)
{
	struct duct_error why;
	struct pg_identity who;
	if (postgres_open_session(&p->src, true, &p->src.repl, &why) || pg_identify_system(&who, p->src.repl, &why))
		probe_say(p, DUCT_FINDING_ERROR, "allow this host, role and database in pg_hba.conf; the role needs REPLICATION",
			  "no replication connection: %s", why.message);
	else
		probe_say(p, DUCT_FINDING_OK, NULL, "replication connection: system %s, timeline %d", who.system_id, who.timeline);
}

static void probe_slot(struct probe *p)
{
	const struct postgres_config *c = p->src.config;
	struct duct_error why;
	if (!p->slot.exists) {
		check(p, c->create_slot, DUCT_FINDING_ERROR,
		      c->create_slot ? "the slot does not exist yet: the first start creates it" : "the slot does not exist",
		      "create it, or set create_slot=true");
		return;
	}
	if (postgres_slot_usable(&p->src, &p->slot, &why))
		probe_say(p, why.class == DUCT_RETRY ? DUCT_FINDING_WARN : DUCT_FINDING_ERROR, "see there", "%s", why.message);
	else
		probe_say(p, DUCT_FINDING_OK, NULL, "slot \"%s\" exists and is free (log: %s)", c->slot, p->slot.wal_status);
	if (strcmp(p->slot.wal_status, "unreserved") == 0)
		probe_say(p, DUCT_FINDING_ERROR, "start the flow at once, raise max_slot_wal_keep_size",
			  "slot \"%s\" loses its log at the next checkpoint", c->slot);
	if (p->slot.two_phase)
		probe_say(p, DUCT_FINDING_ERROR, "make a slot without two_phase", "slot \"%s\" sends prepared transactions early",
			  c->slot);
}

/* --- the spool --- */

const char *postgres_spool_dir(const struct postgres_config *config)
{
	const char *temp = getenv("TMPDIR");
	return config->spool_dir ? config->spool_dir : temp && *temp ? temp : "/tmp";
}

bool postgres_describe_spool(const struct postgres_config *config, char *to, size_t size, uint64_t *ret_free)
{
	const char *dir = postgres_spool_dir(config);
	struct statvfs room;
	char limit[64] = "no limit";
	*ret_free = 0;
	if (access(dir, W_OK | X_OK) || statvfs(dir, &room)) {
		snprintf(to, size, "large transactions cannot be spooled in \"%s\": %s (option spool_dir)", dir, strerror(errno));
		return false;
	}
	*ret_free = (uint64_t)room.f_bavail * room.f_frsize;
	if (config->spool_limit)
		snprintf(limit, sizeof limit, "at most %lld MiB", (long long)config->spool_limit >> 20);
	snprintf(to, size, "large transactions are spooled in \"%s\": %s (option spool_limit), %llu MiB are free", dir, limit,
		 (unsigned long long)*ret_free >> 20);
	return true;
}

static void probe_spool(struct probe *p)
{
	const struct postgres_config *c = p->src.config;
	char what[512];
	uint64_t free_bytes;
	if (!postgres_describe_spool(c, what, sizeof what, &free_bytes))
		probe_say(p, DUCT_FINDING_ERROR, "name a folder that the user who runs ductstream may write", "%s", what);
	else if (c->spool_limit && (uint64_t)c->spool_limit > free_bytes)
		probe_say(p, DUCT_FINDING_WARN, "make room, or lower spool_limit: the disk would be full before", "%s", what);
	else
		probe_say(p, DUCT_FINDING_OK, NULL, "%s", what);
}

int postgres_probe(const void *config, const struct duct_ctx *ctx, struct duct_relations *tables, duct_report_fn *report, void *arg,
		   struct duct_error *err)
{
	struct probe *p = duct_xcalloc(1, sizeof *p);
	struct duct_error why;
	p->src.config = config;
	p->src.ctx = ctx;
	p->report = report;
	p->arg = arg;
	p->relations = tables;
	int r = 0;
	if (postgres_open_session(&p->src, false, &p->src.sql, &why) || pg_server_read(&p->src.server, p->src.sql, &why)) {
		if (why.class == DUCT_CANCELLED)
			r = duct_fail(err, DUCT_CANCELLED, "stopped");
		else
			probe_say(p, DUCT_FINDING_ERROR,
				  strstr(why.message, "authentication failed")
					  ? "correct user or password in the option dsn, or the server's pg_hba.conf"
					  : "correct the option dsn, or start the server",
				  "no connection: %s", why.message);
	} else if (!(r = pg_slot_read(&p->slot, p->src.sql, p->src.config->slot, err)) &&
		   !(r = pg_publication_read(&p->pub, p->src.sql, p->src.config->publication, err))) {
		probe_server(p);
		probe_replication(p);
		probe_slot(p);
		probe_spool(p);
		r = probe_publication(p, err);
	}
	pg_session_close(p->src.repl);
	pg_session_close(p->src.sql);
	free(p);
	return r;
}
