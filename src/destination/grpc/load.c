/* Copies: the rows of all tables are one batch. Workers encode side by side and take turns at the one client. */
#include "destination/grpc/grpc.h"

#include "base/killpoint.h"

struct loader {
	struct grpc_dest *d;
	struct grpc_dest_parts parts;
};

int grpc_dest_load_begin(void *dest, struct duct_relation *const *relations, size_t n, unsigned flags, struct duct_error *err)
{
	struct grpc_dest *d = dest;
	(void)flags; /* without rows there are no loaders */
	(void)err;
	d->load = message_load_new(relations, n);
	return 0;
}

int grpc_dest_loader_open(void *dest, struct duct_relation *rel, void **ret_loader, struct duct_error *err)
{
	(void)rel, (void)err;
	struct loader *l = duct_xcalloc(1, sizeof *l);
	l->d = dest;
	*ret_loader = l;
	return 0;
}

static int send_parts(struct loader *l, struct duct_error *err)
{
	struct grpc_dest *d = l->d;
	struct message_load *load = d->load;
	int rc = 0;
	pthread_mutex_lock(&load->lock);
	if (load->failed)
		rc = duct_fail(err, DUCT_RETRY, "another worker of the copy has failed");
	for (size_t i = 0, n; i < l->parts.n && rc == 0; i += n) {
		n = grpc_dest_fit(d, &l->parts.list[i], l->parts.n - i);
		rc = grpc_dest_send(d, &l->parts.list[i], n, NULL, err);
		d->sent += rc == 0 ? (int)n : 0;
		for (size_t k = i; k < i + n && rc == 0; k++)
			load->rows += l->parts.list[k].records;
		duct_kill_point("group-sent");
	}
	load->failed |= rc < 0;
	pthread_mutex_unlock(&load->lock);
	grpc_dest_parts_reset(&l->parts);
	return rc;
}

int grpc_dest_loader_write(void *loader, const struct duct_batch *batch, struct duct_error *err)
{
	struct loader *l = loader;
	const struct wire_rows rows = wire_all_rows(NULL, batch);
	int rc = grpc_dest_encode(l->d, &l->parts, &rows, err);
	return rc < 0 ? rc : send_parts(l, err);
}

int grpc_dest_loader_finish(void *loader, struct duct_error *err)
{
	(void)loader, (void)err; /* durable with all others, at the publication */
	return 0;
}

void grpc_dest_loader_close(void *loader)
{
	struct loader *l = loader;
	if (!l)
		return;
	grpc_dest_parts_done(&l->parts);
	free(l);
}

static void load_free(struct grpc_dest *d)
{
	message_load_free(d->load);
	d->load = NULL;
}

int grpc_dest_load_publish(void *dest, const struct duct_pos *pos, const char *source_identity, bool set_position,
			   struct duct_commit_result *ret, struct duct_error *err)
{
	static const struct grpc_dest_part nothing;
	struct grpc_dest *d = dest;
	struct duct_checkpoint at = d->stored;
	size_t before = d->known.n;
	at.state = DUCT_STATE_STREAMING;
	if (set_position)
		at.pos = *pos;
	(void)snprintf(at.source_identity, sizeof at.source_identity, "%s", source_identity ? source_identity : "");
	for (size_t i = 0; i < d->load->tables.n; i++)
		message_tables_add(&d->known, d->load->tables.oids[i]);
	int rc = grpc_dest_end(d, &nothing, &at, err);
	if (rc < 0) {
		d->known.n = before;
		return rc;
	}
	*ret = (struct duct_commit_result){.snapshot_id = d->batch, .rows = d->load->rows};
	d->group.upto = d->stored.pos;
	load_free(d);
	return 0;
}

void grpc_dest_load_abort(void *dest)
{
	struct grpc_dest *d = dest;
	d->knows &= d->load == NULL; /* the receiver has parts of it */
	load_free(d);
}
