/* Where connection strings lead, without going there. */
#include "pg/session.h"

#include <stdlib.h>
#include <string.h>

static const char *value_of(const PQconninfoOption *options, const char *name)
{
	for (; options->keyword; options++)
		if (strcmp(options->keyword, name) == 0)
			return options->val && *options->val ? options->val : options->envvar ? getenv(options->envvar) : NULL;
	return NULL;
}

static const char *or_else(const char *text, const char *other)
{
	return text && *text ? text : other;
}

static const char *host_of(const PQconninfoOption *options)
{
	const char *host = or_else(value_of(options, "host"), or_else(value_of(options, "hostaddr"), ""));
	return strcmp(host, "127.0.0.1") == 0 || strcmp(host, "::1") == 0 ? "localhost" : host;
}

static const char *database_of(const PQconninfoOption *options)
{
	return or_else(value_of(options, "dbname"), or_else(value_of(options, "user"), ""));
}

bool pg_same_database(const char *a, const char *b)
{
	PQconninfoOption *x = PQconninfoParse(a, NULL), *y = PQconninfoParse(b, NULL);
	bool same = x && y && strcmp(host_of(x), host_of(y)) == 0 && strcmp(database_of(x), database_of(y)) == 0 &&
		strcmp(or_else(value_of(x, "port"), "5432"), or_else(value_of(y, "port"), "5432")) == 0;
	PQconninfoFree(x);
	PQconninfoFree(y);
	return same;
}
