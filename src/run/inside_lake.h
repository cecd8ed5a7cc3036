#ifndef RUN_INSIDE_LAKE_H
#define RUN_INSIDE_LAKE_H

#include "duck/session.h"
#include "run/inside.h"

/*
 * The lake of the environment, attached in a job's process: with its object store where its data are in one, and with patience where its catalog is
 * busy or just being made.
 */
struct run_lake;

/* Loads what it needs into conn's instance and attaches it under the name. */
int run_lake_attach(struct run_lake **ret, struct run_inside *inside, struct duck_conn *conn, const char *name,
		    struct duct_error *err) DUCT_CHECKED;
void run_lake_close(struct run_lake *lake); /* accepts NULL */
const struct duck_lake *run_lake_config(const struct run_lake *lake);
/* Keys of a role end: called before each part of the work that may take minutes. Any thread, with a connection of its own. */
int run_lake_renew(struct run_lake *lake, struct duck_conn *conn, struct duct_error *err) DUCT_CHECKED;

#endif
