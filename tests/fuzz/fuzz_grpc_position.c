/* What a receiver says about how far it is, and what a file says in its place: any bytes are a position or an error. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "destination/grpc/grpc.h"

static void read_metadata(struct grpc_dest *d, const uint8_t *data, size_t size)
{
	struct duct_error err;
	json_t *metadata = json_loadb((const char *)data, size, 0, NULL);
	struct grpc_dest_position at = {.lsn = 1, .metadata = json_is_object(metadata) ? metadata : NULL};
	int rc = grpc_dest_read_position(d, &at, &err);
	if (rc == 0 && at.metadata && d->stored.state == DUCT_STATE_NONE)
		abort();
	if (rc == 0 && (d->batch < 0 || d->stored.pos.commit_us < 0 || (d->known.n && !d->tables_told)))
		abort();
	json_decref(metadata);
}

static void read_note(struct grpc_dest *d, const uint8_t *data, size_t size)
{
	struct grpc_dest_note note;
	struct duct_error err;
	char path[32];
	int fd = memfd_create("note", MFD_CLOEXEC);
	if (fd < 0 || write(fd, data, size) != (ssize_t)size)
		abort();
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	struct grpc_dest_config config = {.position_file = path};
	d->config = &config;
	if (grpc_dest_note_read(d, &note, &err) == 0) {
		if (note.sent < 0)
			abort();
		if (grpc_dest_read_position(d, &note.at, &err) == 0 && grpc_dest_read_position(d, &note.next, &err) == 0 &&
		    d->batch < 0)
			abort();
		grpc_dest_note_done(&note);
	}
	close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct grpc_dest d = {.flow_id = "f", .name = "d"};
	read_metadata(&d, data, size);
	read_note(&d, data, size);
	message_tables_done(&d.known);
	return 0;
}
