/* The replication protocol: see pgoutput.h. Layouts: src/backend/replication/logical/proto.c of Postgres documents them
 * in "Logical Replication Message Formats". Integers are big-endian, str is NUL-terminated. */
#include "pg/pgoutput.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/reader.h"
#include "pg/fast.h"

static const int64_t epoch_us = 946684800000000; /* 2000-01-01 */

static int64_t read_time(struct duct_reader *r)
{
	return (int64_t)((uint64_t)duct_read_i64(r) + (uint64_t)epoch_us);
}

/* 'w': u64 start, u64 end, i64 time, payload; 'k': u64 end, i64 time, u8 reply now */
int pgout_frame(struct pgout_frame *ret, const void *data, size_t len, struct duct_error *err)
{
	struct duct_reader r = duct_reader_over(data, len);
	struct pgout_frame f = {.kind = (char)duct_read_u8(&r)};
	if (f.kind == 'w') {
		f.start = duct_read_u64(&r);
		f.end = duct_read_u64(&r);
		f.time_us = read_time(&r);
		f.len = duct_reader_left(&r);
		f.payload = duct_read_bytes(&r, f.len);
	} else if (f.kind == 'k') {
		f.end = duct_read_u64(&r);
		f.time_us = read_time(&r);
		f.reply_now = duct_read_u8(&r);
	} else {
		r.bad = true;
	}
	if (r.bad || duct_reader_left(&r))
		return duct_fail(err, DUCT_FATAL,
				 "replication stream: a frame of %zu bytes beginning with byte 0x%02x is malformed", len,
				 len ? *(const uint8_t *)data : 0);
	*ret = f;
	return 0;
}

static char *put_u64(char *to, uint64_t v)
{
	v = __builtin_bswap64(v);
	memcpy(to, &v, 8);
	return to + 8;
}

/* u8 'r', u64 written, u64 flushed, u64 applied, i64 clock, u8 reply now */
void pgout_feedback(char *to, uint64_t write, uint64_t flush, uint64_t apply, int64_t now_us, bool reply_now)
{
	*to++ = 'r';
	to = put_u64(to, write);
	to = put_u64(to, flush);
	to = put_u64(to, apply);
	to = put_u64(to, (uint64_t)(now_us - epoch_us));
	*to = (char)reply_now;
}

void pgout_reset(struct pgout *d)
{
	d->in_stream = false;
}

void pgout_done(struct pgout *d)
{
	free(d->values[0]);
	free(d->values[1]);
	free(d->columns);
	free(d->oids);
	*d = (struct pgout){0};
}

/* i16 columns, each u8 kind: n NULL, u unchanged, t or b with i32 length and bytes */
static struct pg_tuple read_tuple(struct pgout *d, int which, struct duct_reader *r)
{
	int n = duct_read_i16(r);
	if (n < 0 || duct_reader_left(r) < (size_t)n) {
		r->bad = true;
		return (struct pg_tuple){0};
	}
	if (d->values_cap[which] < (size_t)n + 1)
		d->values[which] = duct_grow(d->values[which], &d->values_cap[which], (size_t)n + 1, sizeof *d->values[which]);
	const char *at = r->at, *const end = r->end;
	struct pg_value *v = d->values[which], *const last = v + n;
	for (; v < last && at < end; v++) {
		*v = (struct pg_value){.kind = *at++};
		if (v->kind == 'n' || v->kind == 'u')
			continue;
		if ((v->kind != 't' && v->kind != 'b') || end - at < 4)
			break;
		int32_t len = (int32_t)pg_be32(at);
		at += 4;
		if (len < 0 || end - at < len)
			break;
		v->data = at;
		v->len = (uint32_t)len;
		at += len;
	}
	r->at = at;
	r->bad |= v < last;
	return r->bad ? (struct pg_tuple){0} : (struct pg_tuple){d->values[which], n};
}

/* u32 relation, then I: 'N' tuple; U: [K|O tuple] 'N' tuple; D: K|O tuple */
static void read_change(struct pgout *d, char kind, struct duct_reader *r, struct pgout_change *c)
{
	c->oid = duct_read_u32(r);
	char part = (char)duct_read_u8(r);
	if (kind != 'I' && (part == 'K' || part == 'O')) {
		c->old_kind = part;
		c->old = read_tuple(d, 0, r);
		if (kind == 'D')
			return;
		part = (char)duct_read_u8(r);
	}
	if (kind == 'D' || part != 'N') {
		r->bad = true;
		return;
	}
	c->new = read_tuple(d, 1, r);
}

/* u32 oid, str schema, str name, u8 identity, i16 columns x {u8 flags, str name, u32 type, i32 typmod} */
static void read_relation(struct pgout *d, struct duct_reader *r, struct pgout_relation *rel)
{
	rel->oid = duct_read_u32(r);
	rel->schema = duct_read_cstr(r);
	rel->name = duct_read_cstr(r);
	rel->identity = (char)duct_read_u8(r);
	int n = duct_read_i16(r);
	if (n < 0 || r->bad || !memchr("dnfi", rel->identity, 4)) {
		r->bad = true;
		return;
	}
	if (!*rel->schema)
		rel->schema = "pg_catalog";
	if (d->columns_cap < (size_t)n + 1)
		d->columns = duct_grow(d->columns, &d->columns_cap, (size_t)n + 1, sizeof *d->columns);
	for (int i = 0; i < n && !r->bad; i++) {
		struct pgout_column *c = &d->columns[i];
		c->key = duct_read_u8(r) & 1;
		c->name = duct_read_cstr(r);
		c->typid = duct_read_u32(r);
		c->typmod = duct_read_i32(r);
	}
	rel->ncolumns = n;
	rel->columns = d->columns;
}

/* i32 relations, u8 flags, u32 each */
static void read_truncate(struct pgout *d, struct duct_reader *r, struct pgout_message *m)
{
	int32_t n = duct_read_i32(r);
	unsigned flags = duct_read_u8(r);
	if (n < 0 || duct_reader_left(r) / 4 < (size_t)n) {
		r->bad = true;
		return;
	}
	if (d->oids_cap < (size_t)n + 1)
		d->oids = duct_grow(d->oids, &d->oids_cap, (size_t)n + 1, sizeof *d->oids);
	for (int32_t i = 0; i < n; i++)
		d->oids[i] = duct_read_u32(r);
	m->truncate.cascade = flags & 1;
	m->truncate.restart = flags & 2;
	m->truncate.noids = n;
	m->truncate.oids = d->oids;
}

/* u8 transactional, u64 lsn, str prefix, i32 length, bytes */
static void read_logical_message(struct duct_reader *r, struct pgout_message *m)
{
	m->message.transactional = duct_read_u8(r) & 1;
	m->message.lsn = duct_read_u64(r);
	m->message.prefix = duct_read_cstr(r);
	int32_t len = duct_read_i32(r);
	m->message.data = duct_read_bytes(r, len < 0 ? SIZE_MAX : (size_t)len);
	m->message.len = (uint32_t)len;
}

static void read_prepare(char kind, struct duct_reader *r, struct pgout_message *m)
{
	if (kind != 'b')
		(void)duct_read_u8(r); /* flags, none defined */
	m->prepare.lsn = duct_read_u64(r);
	m->prepare.end_lsn = duct_read_u64(r);
	if (kind == 'r')
		m->prepare.begin_us = read_time(r);
	m->prepare.time_us = read_time(r);
	m->xid = duct_read_u32(r);
	m->prepare.gid = duct_read_cstr(r);
}

static void read_commit(struct duct_reader *r, struct pgout_message *m)
{
	(void)duct_read_u8(r); /* flags, none defined */
	m->commit.commit_lsn = duct_read_u64(r);
	m->commit.end_lsn = duct_read_u64(r);
	m->commit.commit_us = read_time(r);
}

/* u32 top xid, u32 sub xid, and with streaming 'parallel' u64 lsn, i64 time */
static void read_stream_abort(struct duct_reader *r, struct pgout_message *m)
{
	m->xid = duct_read_u32(r);
	m->stream_abort.subxid = duct_read_u32(r);
	if (duct_reader_left(r)) {
		m->stream_abort.lsn = duct_read_u64(r);
		m->stream_abort.abort_us = read_time(r);
	}
}

/* Messages of transactions, blocks and two-phase commit; false: not one of them. */
static bool read_control(struct pgout *d, struct duct_reader *r, struct pgout_message *m)
{
	switch (m->kind) {
	case 'B':
		m->begin.final_lsn = duct_read_u64(r);
		m->begin.commit_us = read_time(r);
		m->xid = duct_read_u32(r);
		r->bad |= d->in_stream;
		return true;
	case 'c':
		m->xid = duct_read_u32(r);
		read_commit(r, m);
		return true;
	case 'C': read_commit(r, m); return true;
	case 'O':
		m->origin.lsn = duct_read_u64(r);
		m->origin.name = duct_read_cstr(r);
		return true;
	case 'S':
		m->xid = duct_read_u32(r);
		m->stream_start.first = duct_read_u8(r);
		r->bad |= d->in_stream; /* blocks never nest */
		d->in_stream = true;
		return true;
	case 'E':
		r->bad |= !d->in_stream;
		d->in_stream = false;
		return true;
	case 'A': read_stream_abort(r, m); return true;
	case 'b':
	case 'P':
	case 'p':
	case 'K':
	case 'r': read_prepare(m->kind, r, m); return true;
	default: return false;
	}
}

static void read_body(struct pgout *d, struct duct_reader *r, struct pgout_message *m)
{
	if (read_control(d, r, m))
		return;
	if (!m->kind || !strchr("RYIUDTM", m->kind)) {
		r->bad = true;
		return;
	}
	if (d->in_stream)
		m->xid = duct_read_u32(r);
	switch (m->kind) {
	case 'R': read_relation(d, r, &m->relation); break;
	case 'Y':
		m->type.oid = duct_read_u32(r);
		m->type.schema = duct_read_cstr(r);
		m->type.name = duct_read_cstr(r);
		break;
	case 'T': read_truncate(d, r, m); break;
	case 'M': read_logical_message(r, m); break;
	default: read_change(d, m->kind, r, &m->change);
	}
}

int pgout_decode(struct pgout *d, const void *data, size_t len, struct pgout_message *ret, struct duct_error *err)
{
	struct duct_reader r = duct_reader_over(data, len);
	memset(ret, 0, sizeof *ret);
	ret->kind = (char)duct_read_u8(&r);
	if (!r.bad)
		read_body(d, &r, ret);
	if (!r.bad && !duct_reader_left(&r))
		return 0;
	/* A short read moves to the end, so the offset of a cut message is its length. */
	return duct_fail(err, DUCT_FATAL, "replication stream: message '%c' (0x%02x) of %zu bytes is malformed at offset %zu",
			 isprint((unsigned char)ret->kind) ? ret->kind : '?', (unsigned char)ret->kind, len,
			 (size_t)(r.at - (const char *)data));
}
