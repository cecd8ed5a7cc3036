#include "destination/messages.h"

#include <stdlib.h>

#include "base/clock.h"

const char *message_name(const char *option, const struct duct_ctx *ctx)
{
	if (option)
		return option;
	return ctx->destination ? ctx->destination : ctx->flow;
}

int message_format(const struct wire_format **ret, const char *option, const struct duct_ctx *ctx, struct duct_error *err)
{
	const struct wire_choice choice = {
		.connector = option,
		.flow = ctx->wire.flow,
		.service = ctx->wire.service,
		.fallback = "json",
		.enforce = ctx->wire.enforce,
	};
	return wire_choose(ret, &choice, err);
}

static int compare_rows(const void *a, const void *b)
{
	uint64_t x = ((const struct message_row *)a)->seq, y = ((const struct message_row *)b)->seq;
	return (x > y) - (x < y);
}

struct message_row *message_rows(const struct duct_changes *changes, size_t *ret_n)
{
	struct message_row *rows = NULL;
	size_t n = 0, cap = 0;
	for (size_t b = 0; b < changes->nbatches; b++) {
		const struct duct_batch *batch = changes->batches[b];
		rows = duct_grow(rows, &cap, n + batch->rows, sizeof *rows);
		for (uint32_t r = 0; r < batch->rows; r++)
			rows[n++] = (struct message_row){batch->seq[r], (uint32_t)b, r};
	}
	if (changes->nbatches > 1)
		qsort(rows, n, sizeof *rows, compare_rows);
	*ret_n = n;
	return rows;
}

void message_group_open(struct message_group *group)
{
	if (!group->open)
		group->opened_us = duct_mono_us();
	group->open = true;
}

void message_group_add(struct message_group *group, const struct duct_changes *changes)
{
	if (changes->upto.lsn > group->upto.lsn)
		group->upto = changes->upto;
	group->partial = (changes->nbatches || changes->ncommits) && !changes->ends_commit;
}

void message_group_reset(struct message_group *group)
{
	group->rows = 0;
	group->open = group->partial = false;
	group->opened_us = 0;
}

struct duct_destination_pace message_group_pace(const struct message_group *group, int64_t interval_ms, bool full)
{
	if (!group->open)
		return (struct duct_destination_pace){INT64_MAX, false};
	int64_t due = group->last_commit_us + interval_ms * 1000;
	return (struct duct_destination_pace){
		.commit_at_us = due > group->opened_us ? due : group->opened_us,
		.full = full,
	};
}

void message_tables_add(struct message_tables *to, uint32_t oid)
{
	to->oids = duct_grow(to->oids, &to->cap, to->n + 1, sizeof *to->oids);
	to->oids[to->n++] = oid;
}

void message_tables_done(struct message_tables *tables)
{
	free(tables->oids);
	*tables = (struct message_tables){0};
}

struct message_load *message_load_new(struct duct_relation *const *relations, size_t n)
{
	struct message_load *load = duct_xcalloc(1, sizeof *load);
	pthread_mutex_init(&load->lock, NULL);
	for (size_t i = 0; i < n; i++)
		message_tables_add(&load->tables, relations[i]->oid);
	return load;
}

void message_load_free(struct message_load *load)
{
	if (!load)
		return;
	pthread_mutex_destroy(&load->lock);
	message_tables_done(&load->tables);
	free(load);
}
