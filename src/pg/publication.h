#ifndef PG_PUBLICATION_H
#define PG_PUBLICATION_H

#include "base/buf.h"
#include "pg/session.h"

/* Tables that are, or may come, into a publication, whether it exists or not. */
struct pg_choice {
	char *schema, *name;
	uint32_t oid;
	bool member;	/* of the publication, named in it */
	bool permanent; /* the server publishes no others */
};
/* Each table once. Zero-initialise it. */
struct pg_choices {
	struct pg_choice *list;
	size_t n, cap;
};
void pg_choices_done(struct pg_choices *choices);
#define AUTO_PG_CHOICES __attribute__((cleanup(pg_choices_done)))

/* Adds the table of that name: as it stands in the catalog, else as SQL would read it (quotes, case); without a schema it is in public. 1, 0
 * when there is none, -class. */
int pg_choose_table(struct pg_choices *to, struct pg_session *session, const char *publication, const char *name,
		    struct duct_error *err) DUCT_CHECKED;
/* Adds the permanent tables of a schema (NULL: of all but the server's own) that are no partitions, by name; not the table
 * own_schema.own_table. */
int pg_choose_schema(struct pg_choices *to, struct pg_session *session, const char *publication, const char *schema,
		     const char *own_schema, const char *own_table, struct duct_error *err) DUCT_CHECKED;
/* Adds the tables that the publication names. */
int pg_choose_members(struct pg_choices *to, struct pg_session *session, const char *publication,
		      struct duct_error *err) DUCT_CHECKED;

void pg_choices_keep(struct pg_choices *choices, bool (*wanted)(const void *arg, const struct pg_choice *choice), const void *arg);
/* Takes those out that are in `others`, too. */
void pg_choices_without(struct pg_choices *choices, const struct pg_choices *others);

/* "VERB publication P WHAT a.b, c.d" of those that are members, or of those that are not; nothing when there are none. How many. */
size_t pg_choices_put(struct duct_buf *sql, const char *verb, const char *publication, const char *what,
		      const struct pg_choices *choices, bool members);

#endif
