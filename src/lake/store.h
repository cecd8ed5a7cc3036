#ifndef LAKE_STORE_H
#define LAKE_STORE_H

#include "lake/parquet.h"
#include "lake/txn.h"
#include "net/s3.h"

/*
 * Where the files of a lake are put: straight into its folders, or, where its data are in S3, by way of a scratch folder on this machine, from which
 * each is sent when it is complete. One thread.
 */
struct lake_store;

/* data_path: of the lake. A URL: with these options and keys, which are borrowed (NULL for a folder); stop_fd as in http_open(). Sends nothing. */
int lake_store_open(struct lake_store **ret, const char *data_path, const struct s3_options *options,
		    struct aws_credentials *credentials, int stop_fd, struct duct_error *err) DUCT_CHECKED;
void lake_store_close(struct lake_store *store);	  /* accepts NULL */
struct s3 *lake_store_s3(const struct lake_store *store); /* NULL: a folder */

/* As lake_write_file() and lake_write_delete_file(), but `dir` may be a URL; then paths are URLs, too. */
int lake_store_write(struct lake_store *store, const struct lake_write_spec *spec, const struct lake_rows *rows,
		     struct lake_new_file **ret, bool *ret_more, struct duct_error *err) DUCT_CHECKED;
int lake_store_write_deletes(struct lake_store *store, const char *dir, const char *data_path,
			     const struct lake_positions *positions, const int64_t *snapshots, struct lake_new_delete_file *ret,
			     struct duct_error *err) DUCT_CHECKED;
/* A file that no catalog names. One that stays is an orphan, which harms nobody. */
void lake_store_remove(struct lake_store *store, const char *path);

#endif
