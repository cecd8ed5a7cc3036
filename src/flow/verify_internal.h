#ifndef FLOW_VERIFY_INTERNAL_H
#define FLOW_VERIFY_INTERNAL_H

#include "flow/progress.h"
#include "flow/verify.h"
#include "lake/parquet.h"
#include "pg/relation.h"
#include "pg/server.h"
#include "source/postgres/config.h"

/* Shared by the files of the comparison only. */

/* --- verify_digest.c: content as sums over buckets of keys, and key by key. Pure memory. --- */
enum { VERIFY_BUCKETS = 1 << 16, VERIFY_LOOKS = 3 };

struct verify_sum {
	uint64_t a, b, count; /* rows with this key: two sums of their hash, and how many */
};
struct verify_key {
	uint64_t hash[2];
	struct verify_sum sum;
	char *text;
};
struct verify_digest {
	struct verify_sum *buckets; /* VERIFY_BUCKETS, by the key's hash */
	uint64_t rows, compared;    /* compared: less than all of a sample */
	uint64_t dead;		    /* rows of the source that cannot be stored, left out */
	const bool *wanted;	    /* buckets whose keys are kept one by one; NULL: none */
	struct verify_key *keys;
	size_t nkeys, keys_cap;
	struct duct_arena texts;
};
void verify_digest_init(struct verify_digest *d, const bool *wanted);
void verify_digest_done(struct verify_digest *d);
void verify_digest_add(struct verify_digest *d, const uint64_t key_hash[2], const uint64_t row_hash[2], const char *text);
/* Sorts and joins equal keys. */
void verify_digest_finish(struct verify_digest *d);

enum verify_kind { VERIFY_MISSING, VERIFY_EXTRA, VERIFY_CONTENT };
/* A key on which the sides have not agreed yet. */
struct verify_suspect {
	uint64_t hash[2];
	struct verify_sum source, lake;
	enum verify_kind kind;
	int looks; /* in a row that showed exactly this */
	char *text;
};
struct verify_suspects {
	struct verify_suspect *list; /* by hash */
	size_t n;
	bool begun;
};
void verify_suspects_done(struct verify_suspects *s);
/* One more look: the first one takes every difference, later ones only go on with those. */
void verify_suspects_look(struct verify_suspects *s, struct verify_digest *source, struct verify_digest *lake);
/* All that is left has stood still for VERIFY_LOOKS looks. */
bool verify_suspects_settled(const struct verify_suspects *s);

/* --- one table on both sides --- */
struct verify_column {
	int source;			/* index in the source's relation */
	const struct lake_column *lake; /* of the model: valid until the next sync */
	struct duct_type type;		/* the lake's, in the table's arena: what both sides are compared in */
	int64_t column_id;
	bool key, cast;
};
struct verify_table {
	struct duct_arena arena;
	const struct pg_published *published;
	struct pg_relation *relation;
	int64_t table_id;
	struct verify_column *columns;
	int ncolumns;
	bool keyed;
	int64_t deleted_id; /* of the lake's column that marks deleted rows; -1: none */
	uint64_t sample;    /* a key is compared when half of its hash is not above; UINT64_MAX: all */
};

/* Memory that verify_add_row() uses again; zeroed at first. */
struct verify_row_scratch {
	struct duct_buf key, row, cast, text;
};
void verify_row_scratch_done(struct verify_row_scratch *scratch);
/* Adds one row of a batch of the source, or of the lake: its columns are then the table's, in their order. */
int verify_add_row(struct verify_digest *d, const struct verify_table *t, const struct duct_batch *batch, uint32_t row, bool source,
		   struct verify_row_scratch *scratch, struct duct_error *err) DUCT_CHECKED;

struct verify {
	const struct flow_spec *spec;
	const struct flow_verify_options *options;
	const struct duct_ctx *ctx;
	const struct postgres_config *from;
	const struct verify_side *side;
	const void *to; /* the destination's config */
	struct pg_session *session;
	struct lake *lake; /* of verify_lake.c, with a session to read files */
	struct duck_db *db;
	struct duck_conn *conn;
	struct duckdb_dest *duckdb; /* of verify_duckdb.c */
	struct duct_ctx named;	    /* ctx with the flow's name, for it */
	struct pg_published_list *published;
	struct pg_tables *facts;
	struct pg_catalog *catalog;
	size_t different, undecided;
	bool source_failed; /* while it was read: the session is in the middle of that, and nothing more can be asked */
};

/* --- verify_source.c --- */
int verify_source_open(struct verify *v, struct duct_error *err) DUCT_CHECKED;
int verify_source_read(struct verify *v, const struct verify_table *t, struct verify_digest *to,
		       struct duct_error *err) DUCT_CHECKED;
/* Waits until the destination holds everything that the source had committed before the call. */
int verify_wait(struct verify *v, struct duct_error *err) DUCT_CHECKED;

/* --- the destination's side: verify_lake.c, verify_duckdb.c --- */
struct verify_side {
	const char *destination; /* type */
	const struct tablesink_options *(*sink)(const void *config);
	int (*open)(struct verify *v, struct duct_error *err);
	int (*position)(struct verify *v, uint64_t *ret, struct duct_error *err); /* of what is there now */
	/* The table's columns on both sides. 1; 0: there is no such table; DATA: a column is not there. */
	int (*columns)(struct verify *v, struct verify_table *t, struct duct_error *err);
	int (*read)(struct verify *v, struct verify_table *t, struct verify_digest *to, struct duct_error *err);
	void (*close)(struct verify *v);
};
extern const struct verify_side verify_lake, verify_duckdb;
/* A column of the table whose value there has this type. */
void verify_add_column(struct verify_table *t, int source, const struct duct_type *type);

/* The source's state table: it may be published, but it is not mirrored. */
bool verify_is_own(const struct verify *v, const struct pg_published *p);

/* What findings call the destination: "lake" or "destination". */
const char *verify_where(const struct verify *v);

/* Waits on the stop for that long; CANCELLED when it comes. */
int verify_pause(struct verify *v, int timeout_ms, struct duct_error *err) DUCT_CHECKED;

#endif
