/*
 * Comparing source and destination by content: see verify.h. First all keys are compared in buckets of their hash, without
 * waiting: equal sums are proof. The keys of buckets that differ are then looked at one by one, each time after the destination
 * has passed a mark that was set after the source was read; a difference that does not move is real.
 */
#include "flow/verify_internal.h"

#include "destination/tablesink.h"

#include <inttypes.h>
#include <poll.h>
#include <string.h>

enum { MAX_LOOKS = 20, MAX_KEYS = 1000000, MAX_ATTEMPTS = 5, AGAIN_MS = 300, DEFAULT_SHOWN = 10 };

struct outcome {
	uint64_t source_rows, lake_rows, dead_rows, compared_rows;
	struct verify_sum source_sum, lake_sum; /* over all rows, of the last look */
	size_t undecided;
	bool capped;	/* more differs than was looked at */
	bool missing;	/* the destination has no such table */
	char why[1024]; /* its columns are others; "": they are not */
	bool counts;	/* all keys of the sample agree, and there are more rows on one side */
	bool counting;	/* the same, but they kept changing */
	struct verify_suspects suspects;
};

const char *verify_where(const struct verify *v)
{
	return v->options->destination ? "destination" : "lake";
}

int verify_pause(struct verify *v, int timeout_ms, struct duct_error *err)
{
	struct pollfd fd = {.fd = v->ctx->stop_fd, .events = POLLIN};
	(void)poll(&fd, 1, timeout_ms); /* EINTR: the caller looks again */
	return duct_ctx_stopped(v->ctx) ? duct_fail(err, DUCT_CANCELLED, "stopped") : 0;
}

/* Reads both sides once. Files that went away under the reader are read again from a newer snapshot. */
static int look(struct verify *v, struct verify_table *t, bool wait, struct verify_digest *source, struct verify_digest *lake,
		struct duct_error *err)
{
	const bool *wanted = lake->wanted;
	int rc = verify_source_read(v, t, source, err);
	if (!rc && wait)
		rc = verify_wait(v, err);
	for (int attempt = 1; !rc; attempt++) {
		rc = v->side->read(v, t, lake, err);
		if (rc != -DUCT_RETRY || attempt == MAX_ATTEMPTS)
			break;
		verify_digest_done(lake);
		verify_digest_init(lake, wanted);
		rc = verify_pause(v, AGAIN_MS, err);
	}
	return rc;
}

/* Marks the buckets that differ, as far as their keys fit in memory. Returns how many differ. */
static size_t choose(const struct verify_digest *source, const struct verify_digest *lake, bool *wanted, bool *ret_capped)
{
	size_t different = 0;
	uint64_t keys = 0;
	*ret_capped = false;
	for (size_t i = 0; i < VERIFY_BUCKETS; i++) {
		const struct verify_sum *a = &source->buckets[i], *b = &lake->buckets[i];
		wanted[i] = false;
		if (a->a == b->a && a->b == b->b && a->count == b->count)
			continue;
		different++;
		keys += a->count + b->count;
		wanted[i] = keys <= MAX_KEYS || different == 1;
		*ret_capped |= !wanted[i];
	}
	return different;
}

static struct verify_sum sum_of(const struct verify_digest *d)
{
	struct verify_sum all = {0};
	for (size_t i = 0; i < VERIFY_BUCKETS; i++) {
		all.a += d->buckets[i].a;
		all.b += d->buckets[i].b;
	}
	return all;
}

static void count_rows(struct outcome *to, const struct verify_digest *source, const struct verify_digest *lake)
{
	to->source_sum = sum_of(source);
	to->lake_sum = sum_of(lake);
	to->dead_rows = source->dead;
	to->source_rows = source->rows;
	to->lake_rows = lake->rows;
	to->compared_rows = source->compared;
}

/* One comparison of all buckets. Returns how many differ, -class. */
static int compare_buckets(struct verify *v, struct verify_table *t, bool wait, bool *wanted, struct outcome *to,
			   struct duct_error *err)
{
	struct verify_digest source, lake;
	verify_digest_init(&source, NULL);
	verify_digest_init(&lake, NULL);
	int rc = look(v, t, wait, &source, &lake, err);
	if (!rc) {
		rc = (int)choose(&source, &lake, wanted, &to->capped);
		count_rows(to, &source, &lake);
	}
	verify_digest_done(&source);
	verify_digest_done(&lake);
	return rc;
}

static int compare_keys(struct verify *v, struct verify_table *t, const bool *wanted, struct outcome *to, struct duct_error *err)
{
	int rc = 0;
	for (int n = 0; n < MAX_LOOKS && !rc; n++) {
		struct verify_digest source, lake;
		verify_digest_init(&source, wanted);
		verify_digest_init(&lake, wanted);
		rc = look(v, t, true, &source, &lake, err);
		if (!rc) {
			verify_suspects_look(&to->suspects, &source, &lake);
			count_rows(to, &source, &lake);
		}
		verify_digest_done(&source);
		verify_digest_done(&lake);
		if (!rc && verify_suspects_settled(&to->suspects))
			return 0;
	}
	for (size_t i = 0; i < to->suspects.n && !rc; i++)
		to->undecided += to->suspects.list[i].looks < VERIFY_LOOKS;
	return rc;
}

/* A sample says nothing about the other rows but how many there are. */
static int compare_counts(struct verify *v, struct verify_table *t, struct outcome *to, struct duct_error *err)
{
	int rc = 0;
	for (int n = 0, same = 1; n < MAX_LOOKS && !rc && to->source_rows != to->lake_rows; n++) {
		struct verify_digest source, lake;
		uint64_t source_rows = to->source_rows, lake_rows = to->lake_rows;
		verify_digest_init(&source, NULL);
		verify_digest_init(&lake, NULL);
		rc = look(v, t, true, &source, &lake, err);
		if (!rc)
			count_rows(to, &source, &lake);
		verify_digest_done(&source);
		verify_digest_done(&lake);
		same = to->source_rows == source_rows && to->lake_rows == lake_rows ? same + 1 : 1;
		to->counts = same >= VERIFY_LOOKS;
		if (to->counts)
			break;
	}
	to->counting = to->source_rows != to->lake_rows && !to->counts;
	return rc;
}

static int compare_table(struct verify *v, struct verify_table *t, struct outcome *to, struct duct_error *err)
{
	AUTO_FREE bool *wanted = duct_xcalloc(VERIFY_BUCKETS, sizeof *wanted);
	int rc = compare_buckets(v, t, false, wanted, to, err);
	if (rc > 0 && to->capped) /* a lake that is merely behind */
		rc = compare_buckets(v, t, true, wanted, to, err);
	if (rc > 0)
		rc = compare_keys(v, t, wanted, to, err);
	return rc || !v->options->sample || to->suspects.n || to->capped ? rc : compare_counts(v, t, to, err);
}

/* Findings. */

static const char *const kind_words[] = {[VERIFY_MISSING] = "missing", [VERIFY_EXTRA] = "extra", [VERIFY_CONTENT] = "content"};

static size_t shown_keys(struct verify *v, const struct outcome *o)
{
	size_t most = v->options->max_shown > 0 ? (size_t)v->options->max_shown : DEFAULT_SHOWN;
	return o->suspects.n < most ? o->suspects.n : most;
}

static bool is_identical(const struct outcome *o)
{
	return !o->suspects.n && !o->capped && !o->missing && !*o->why && !o->counts && !o->counting;
}

static void print_json(struct verify *v, const char *name, const struct outcome *o)
{
	const char *where = verify_where(v);
	AUTO_BUF struct duct_buf to = {0};
	size_t real = o->suspects.n - o->undecided;
	duct_buf_puts(&to, "{\"event\":\"table\",\"table\":");
	duct_buf_json_string(&to, name, strlen(name));
	duct_buf_printf(&to,
			",\"identical\":%s,\"missing\":%s,\"source_rows\":%llu,\"%s_rows\":%llu,\"dead_rows\":%llu,"
			"\"different_keys\":%zu,\"undecided_keys\":%zu,\"complete\":%s,",
			is_identical(o) ? "true" : "false", o->missing ? "true" : "false", (unsigned long long)o->source_rows,
			where, (unsigned long long)o->lake_rows, (unsigned long long)o->dead_rows, real, o->undecided,
			o->capped ? "false" : "true");
	if (*o->why) {
		duct_buf_puts(&to, "\"why\":");
		duct_buf_json_string(&to, o->why, strlen(o->why));
		duct_buf_putc(&to, ',');
	}
	if (v->options->sample)
		duct_buf_printf(&to, "\"compared_rows\":%llu,", (unsigned long long)o->compared_rows);
	duct_buf_printf(&to, "\"source_hash\":\"%016" PRIx64 "%016" PRIx64 "\",\"%s_hash\":\"%016" PRIx64 "%016" PRIx64 "\",",
			o->source_sum.a, o->source_sum.b, where, o->lake_sum.a, o->lake_sum.b);
	duct_buf_puts(&to, "\"differences\":[");
	for (size_t i = 0; i < shown_keys(v, o); i++) {
		const struct verify_suspect *s = &o->suspects.list[i];
		duct_buf_puts(&to, i ? ",{\"key\":" : "{\"key\":");
		duct_buf_json_string(&to, s->text, strlen(s->text));
		duct_buf_printf(&to, ",\"kind\":\"%s\",\"looks\":%d}", kind_words[s->kind], s->looks);
	}
	duct_buf_puts(&to, "]}\n");
	flow_write(v->options->fd, &to);
}

static void put_rows(struct duct_buf *to, const char *before, uint64_t rows, const char *after)
{
	duct_buf_puts(to, before);
	flow_format_count(to, rows);
	duct_buf_puts(to, after);
}

static void put_verdict(struct duct_buf *to, struct verify *v, const struct outcome *o, const char *there)
{
	if (o->missing) {
		duct_buf_printf(to, "there is no such table %s", there);
		return;
	}
	if (*o->why) {
		duct_buf_printf(to, "cannot be the same: %s", o->why);
		return;
	}
	put_rows(to, "", o->source_rows, is_identical(o) ? " rows" : " rows at the source, ");
	if (!is_identical(o)) {
		put_rows(to, "", o->lake_rows, " ");
		duct_buf_puts(to, there);
	}
	if (v->options->sample)
		put_rows(to, ", ", o->compared_rows, " compared");
	if (is_identical(o))
		duct_buf_puts(to, ", identical");
	else if (o->counts || o->counting)
		duct_buf_printf(to, ", other numbers of rows%s", o->counting ? " that kept changing" : "");
	else
		duct_buf_printf(to, ", %s%zu keys differ", o->capped ? "at least " : "", o->suspects.n - o->undecided);
	if (o->undecided)
		duct_buf_printf(to, ", %zu kept changing", o->undecided);
}

static const char *kind_name(enum verify_kind kind, bool destination)
{
	static const char *const names[][2] = {
		[VERIFY_MISSING] = {"missing in the lake", "missing at the destination"},
		[VERIFY_EXTRA] = {"only in the lake", "only at the destination"},
		[VERIFY_CONTENT] = {"other content", "other content"},
	};
	return names[kind][destination];
}

static void print_text(struct verify *v, const char *name, const struct outcome *o)
{
	const char *there = v->options->destination ? "at the destination" : "in the lake";
	AUTO_BUF struct duct_buf to = {0};
	duct_buf_printf(&to, "%s: ", name);
	put_verdict(&to, v, o, there);
	if (o->dead_rows) {
		duct_buf_puts(&to, "; without ");
		flow_format_count(&to, o->dead_rows);
		duct_buf_puts(&to, " dead rows, which cannot be stored");
	}
	if (v->options->hashes && !o->missing && !*o->why)
		duct_buf_printf(&to, "; hash %016" PRIx64 "%016" PRIx64 " at the source, %016" PRIx64 "%016" PRIx64 " %s",
				o->source_sum.a, o->source_sum.b, o->lake_sum.a, o->lake_sum.b, there);
	duct_buf_putc(&to, '\n');
	size_t shown = shown_keys(v, o);
	for (size_t i = 0; i < shown; i++)
		duct_buf_printf(&to, "  %s: %s\n", o->suspects.list[i].text,
				kind_name(o->suspects.list[i].kind, v->options->destination));
	if (o->suspects.n > shown)
		duct_buf_printf(&to, "  and %zu more\n", o->suspects.n - shown);
	flow_write(v->options->fd, &to);
}

/* Tables. */

static bool is_wanted(const struct verify *v, const char *name)
{
	if (!v->options->tables)
		return true;
	for (const char *const *t = v->options->tables; *t; t++)
		if (strcmp(*t, name) == 0)
			return true;
	return false;
}

bool verify_is_own(const struct verify *v, const struct pg_published *p)
{
	return v->from->state_schema && v->from->state_table && strcmp(p->schema, v->from->state_schema) == 0 &&
		strcmp(p->name, v->from->state_table) == 0;
}

static bool is_text(const struct duct_type *type)
{
	return type->kind == DUCT_VARCHAR || type->kind == DUCT_JSON;
}

void verify_add_column(struct verify_table *t, int source, const struct duct_type *type)
{
	const struct duct_column *from = &t->relation->rel->columns[source];
	struct verify_column *c = &t->columns[t->ncolumns++];
	*c = (struct verify_column){.source = source, .key = from->key, .type = duct_type_copy(&t->arena, type)};
	c->cast = !duct_type_equal(&from->type, type) && !(is_text(&from->type) && is_text(type));
}

/* One comparison from the columns on. DATA: the destination's columns are not those of the source, or do not hold its values. */
static int try_table(struct verify *v, struct verify_table *t, struct outcome *o, struct duct_error *err)
{
	const struct duct_relation *rel = t->relation->rel;
	verify_suspects_done(&o->suspects);
	*o = (struct outcome){0};
	t->keyed = rel->nkeys > 0;
	t->deleted_id = -1;
	t->ncolumns = 0;
	t->columns = duct_arena_zalloc(&t->arena, (size_t)rel->ncolumns * sizeof *t->columns + 1);
	int rc = v->side->columns(v, t, err);
	o->missing = rc == 0;
	return rc > 0 ? compare_table(v, t, o, err) : rc;
}

/* A table or a column that joins has its time to do so before it is taken for missing. */
static int judge_table(struct verify *v, struct verify_table *t, struct outcome *o, struct duct_error *err)
{
	uint64_t at;
	int rc = try_table(v, t, o, err);
	if (v->source_failed)
		return rc;
	if ((rc == 0 && o->missing) || rc == -DUCT_DATA) {
		if ((rc = verify_wait(v, err)) || (rc = v->side->position(v, &at, err)))
			return rc;
		rc = try_table(v, t, o, err);
	}
	if (rc != -DUCT_DATA || v->source_failed)
		return rc;
	snprintf(o->why, sizeof o->why, "%s", err->message);
	return 0;
}

static int verify_one(struct verify *v, const struct pg_published *p, const char *name, struct duct_error *err)
{
	struct verify_table t = {.published = p, .sample = UINT64_MAX};
	struct outcome o = {0};
	const struct pg_table *facts = pg_tables_find(v->facts, p->oid);
	size_t names = 0;
	if (v->options->sample && v->options->sample < 1)
		t.sample = (uint64_t)(v->options->sample * 0x1p64);
	while (p->columns && p->columns[names])
		names++;
	duct_arena_init(&t.arena);
	int rc = facts ? pg_relation_from_table(&t.relation, facts, v->catalog, p->columns, names, 1, err)
		       : duct_fail(err, DUCT_RETRY, "table \"%s\" went away during the comparison", name);
	if (!rc)
		rc = judge_table(v, &t, &o, err);
	if (!rc) {
		bool differs = o.suspects.n > o.undecided || o.missing || *o.why || o.counts;
		v->different += differs;
		v->undecided += !differs && (o.undecided || o.capped || o.counting);
		if (v->options->json)
			print_json(v, name, &o);
		else
			print_text(v, name, &o);
	}
	verify_suspects_done(&o.suspects);
	pg_relation_free(t.relation);
	duct_arena_done(&t.arena);
	return rc;
}

static int check_names(struct verify *v, struct duct_error *err)
{
	for (const char *const *t = v->options->tables; t && *t; t++) {
		bool found = false, bare = false;
		for (size_t i = 0; i < v->published->ntables && !found; i++) {
			const struct pg_published *p = &v->published->tables[i];
			AUTO_FREE char *name = duct_xasprintf("%s.%s", p->schema, p->name);
			found = strcmp(name, *t) == 0;
			bare = found && p->bare;
		}
		if (bare)
			return duct_fail(err, DUCT_CONFIG, "table \"%s\" has no column that is published: it is left out", *t);
		if (!found)
			return duct_fail(err, DUCT_CONFIG, "table \"%s\" is not in publication \"%s\"", *t, v->from->publication);
	}
	return 0;
}

static int verify_all(struct verify *v, struct duct_error *err)
{
	int rc = verify_source_open(v, err);
	if (!rc)
		rc = v->side->open(v, err);
	if (!rc)
		rc = check_names(v, err);
	size_t compared = 0;
	for (size_t i = 0; !rc && i < v->published->ntables; i++) {
		const struct pg_published *p = &v->published->tables[i];
		AUTO_FREE char *name = duct_xasprintf("%s.%s", p->schema, p->name);
		if (verify_is_own(v, p) || p->bare || !is_wanted(v, name))
			continue;
		compared++;
		rc = verify_one(v, p, name, err);
	}
	if (rc)
		return rc;
	if (!compared) /* nothing that is equal would pass for everything */
		return duct_fail(err, DUCT_CONFIG,
				 "publication \"%s\" of the source has no tables to compare: is there such a one?",
				 v->from->publication);
	if (v->different)
		return duct_fail(err, DUCT_DATA, "%zu of %zu tables differ", v->different, compared);
	if (v->undecided)
		return duct_fail(err, DUCT_RETRY,
				 "rows of %zu of %zu tables kept changing on both sides: try again when they do less", v->undecided,
				 compared);
	return 0;
}

static const struct verify_side *const sides[] = {&verify_lake, &verify_duckdb};

static const struct verify_side *side_of(const struct flow_spec *spec)
{
	bool one = strcmp(spec->source->name, "postgres") == 0 && spec->ndestinations == 1;
	for (size_t i = 0; one && i < DUCT_LEN(sides); i++)
		if (strcmp(spec->destinations[0].ops->name, sides[i]->destination) == 0)
			return sides[i];
	return NULL;
}

int flow_verify(const struct flow_spec *spec, const struct flow_verify_options *options, const struct duct_ctx *ctx,
		struct duct_error *err)
{
	const struct verify_side *side = side_of(spec);
	if (!side)
		return duct_fail(
			err, DUCT_CONFIG,
			"flow \"%s\": only a postgres source and one destination of type ducklake or duckdb can be compared",
			spec->name);
	if (tablesink_appends(side->sink(spec->destinations[0].config)))
		return duct_fail(err, DUCT_CONFIG,
				 "flow \"%s\": destination \"%s\" keeps a row for every change, so there is nothing that its rows "
				 "would have to be equal to",
				 spec->name, spec->destinations[0].name);
	struct verify v = {
		.spec = spec,
		.options = options,
		.ctx = ctx,
		.from = spec->source_config,
		.side = side,
		.to = spec->destinations[0].config,
	};
	int rc = verify_all(&v, err);
	side->close(&v);
	pg_catalog_free(v.catalog);
	pg_tables_free(v.facts);
	pg_published_free(v.published);
	pg_session_close(v.session);
	return rc;
}
