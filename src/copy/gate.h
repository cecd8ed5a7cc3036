#ifndef COPY_GATE_H
#define COPY_GATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

/*
 * Whether a team may: by the first of these that is set,
 *   DUCKLAKE_FEATURE_FLAGS       "flag=123,456;other=*": team ids or * for all, entries apart by ; , blank or new line
 *   DUCKLAKE_FEATURE_FLAGS_FILE  a file with the same, and comments from # on
 *   DUCKLAKE_FEATURE_FLAGS_URL   a service: POST {"flag", "team_id", "distinct_id", "groups"}, which answers {"enabled": true} or
 *                                {"featureFlags": {"FLAG": true}} within a second; DUCKLAKE_FEATURE_FLAGS_TOKEN is its bearer token
 * Closed when none is set, and on anything but a clear yes; *warning (appended to) says why where that is a failure.
 */
bool copy_gate_is_open(const char *flag, int64_t team_id, int stop_fd, struct duct_buf *warning);

/* The first two's grammar. 1: open, 0: closed (also: not named), -1: it cannot be read. */
int copy_gate_read(const char *text, const char *flag, int64_t team_id);

#endif
