/* duct_dsn_redact(): what is shown of connection strings, compared as a whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <libpq-fe.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"

static const struct {
	const char *dsn, *shown;
} cases[] = {
	/* keyword=value */
	{"host=/tmp dbname=shop user=me", "host=/tmp dbname=shop user=me"},
	{"host=h password=hunter2 user=me", "host=h password=*** user=me"},
	{"host = h  password = 'hun ter2'  user=me", "host=h password=*** user=me"},
	{"password='it\\'s hunter2' host=h", "password=*** host=h"},
	{"password=hun\\ ter2 host=h", "password=*** host=h"},
	{"sslpassword=hunter2 sslmode=require", "sslpassword=*** sslmode=require"},
	{"passwrod=hunter2 host=h", "passwrod=*** host=h"},
	{"PASSWORD=hunter2", "PASSWORD=***"},
	{"password=", "password=***"},
	{"host='' dbname=x", "host='' dbname=x"},
	{"dbname='postgres://u:hunter2@h/d'", "dbname=***"},
	{"dbname='host=h password=hunter2'", "dbname=***"},
	{"options='-c x.password=hunter2' host=h", "options=*** host=h"},
	{"oauth_client_secret=hunter2", "oauth_client_secret=***"},
	{"host=h\tpassword=hunter2\n", "host=h password=***"},
	{"options='-c x.Token=hunter2' host=h", "options=*** host=h"},
	{"host=postgres://u:hunter2@h/d user=me", "host=*** user=me"},
	{"host=h;Password=hunter2", "host=***"},
	{"host=/tmp,::1,h user=me@server", "host=/tmp,::1,h user=me@server"},
	{"dbname=u:hunter2@h/d", "dbname=***"},
	{"service=postgres://u:hunter2@h/d", "service=***"},
	{"passfile=/run/secrets/pg", "passfile=/run/secrets/pg"},
	/* not parseable */
	{"password='hunter2", "***"},
	{"password hunter2", "***"},
	{"hunter2", "***"},
	{"password=hun ter2", "***"},
	{"=hunter2", "***"},
	{"   ", "***"},
	{"", ""},
	/* URI */
	{"postgres://me:hunter2@h:5432/shop", "postgres://me:***@h:5432/shop"},
	{"postgresql://me:hunter2@h/shop?sslmode=require", "postgresql://me:***@h/shop?sslmode=require"},
	{"postgresql://me@h/shop", "postgresql://me@h/shop"},
	{"postgresql://:hunter2@h/shop", "postgresql://:***@h/shop"},
	{"postgresql://", "postgresql://"},
	{"postgresql:///shop?host=/tmp&password=hunter2&user=me", "postgresql:///shop?host=/tmp&password=***&user=me"},
	{"postgresql://h/d?passw%6Frd=hunter2", "postgresql://h/d?passw%6Frd=***"},
	{"postgresql://me:hunter2@[::1]:5432,h2:5433/d", "postgresql://me:***@[::1]:5432,h2:5433/d"},
	{"postgresql://me:hun%40ter2@h/d", "postgresql://me:***@h/d"},
	{"postgresql://me:hunt@er2@h/d", "***"},
	{"postgresql://me:hunt/er2@h/d", "***"},
	{"postgresql://me:hunt?er2@h/d", "***"},
	{"postgresql://me:hunter2/d", "***"},
	{"postgresql://h/d?sslmode", "***"},
	{"postgresql://h/d?application_name=a@b", "***"},
	{"postgresql://u:hunter2@h/d?application_name=a@b", "postgresql://u:***@h/d?application_name=a@b"},
	{"postgresql://[::1/d", "***"},
	{"mysql://me:hunter2@h/d", "***"},
	{"POSTGRESQL://me:hunter2@h/d?sslmode=require", "***"},
	{"postgresql+psycopg://me:hunter2@h/d?sslmode=require", "***"},
	{"postgresql://me@h/d&password=hunter2", "***"},
	{"postgresql://me@h/d password=hunter2", "***"},
	{"postgresql://me@h password=hunter2", "***"},
	{"postgresql://me%3Ahunter2@h/d", "***"},
	{"postgresql:///d?host=%2Ftmp", "postgresql:///d?host=%2Ftmp"},
	{"postgresql://h/d?options=-c%20pass%77ord=hunter2", "postgresql://h/d?options=***"},
	{"postgresql://h/d?dbname=postgres%3A%2F%2Fu%3Ahunter2%40h", "postgresql://h/d?dbname=***"},
};

static void shows_what_is_harmless(void **state)
{
	(void)state;
	for (size_t i = 0; i < DUCT_LEN(cases); i++) {
		AUTO_FREE char *shown = duct_dsn_redact(cases[i].dsn);
		assert_string_equal(shown, cases[i].shown);
		assert_null(strstr(shown, "hunter2"));
	}
	AUTO_FREE char *none = duct_dsn_redact(NULL);
	assert_string_equal(none, "");
}

/* What would put a part of a password where messages name a host, a port or a database is not even tried. */
static void knows_what_is_torn(void **state)
{
	(void)state;
	static const struct {
		const char *dsn;
		bool torn;
	} all[] = {
		{"host=h port=5432 dbname=d password=hunter2", false},
		{"host=h,i port='5432,5433' dbname='a b'", false},
		{"postgresql://me:hunter2@h:5432/d", false},
		{"", false},
		{"dbname", false},
		{"dbname=", false},
		{"dbname='open", false},
		{"host=h dbname='password=hunter2'", true},
		{"dbname = 'host=x password=hunter2' port=1", true},
		{"host=h port=1 dbname=postgres://u:hunter2@h/d", true},
		{"port=hunter2 host=h", true},
		{"postgresql://me:hunt@er2@h/d", true},
		{"postgresql://me:hunter2/d", true},
		{"host=postgres://u:hunter2@h/d", true},
		{"host=h;Password=hunter2", true},
		{"service=postgres://u:hunter2@h/d", true},
		{"postgresql://me@h/d&password=hunter2", true},
		{"postgresql://me@h password=hunter2", true},
		{"postgresql:///d?host=%2Ftmp&user=me%40server", false},
		{"postgresql://h/d?dbname=postgres%3A%2F%2Fu%3Ahunter2%40h", true},
		{"host='/tmp/a=b' dbname=d", false},
		{"host=/tmp,::1,h port=5432 user=me@server", false},
	};
	for (size_t i = 0; i < DUCT_LEN(all); i++) {
		if (duct_dsn_is_torn(all[i].dsn) != all[i].torn)
			fail_msg("%s", all[i].dsn);
		AUTO_FREE char *shown = duct_dsn_redact(all[i].dsn);
		assert_null(strstr(shown, "hunter2"));
	}
}

static const char *value_of(const PQconninfoOption *options, const char *keyword)
{
	for (; options && options->keyword; options++)
		if (strcmp(options->keyword, keyword) == 0)
			return options->val;
	return NULL;
}

/* What libpq takes for the password is not in what we show. */
static void agrees_with_libpq(void **state)
{
	(void)state;
	int with_password = 0;
	for (size_t i = 0; i < DUCT_LEN(cases); i++) {
		PQconninfoOption *options = PQconninfoParse(cases[i].dsn, NULL);
		const char *password = value_of(options, "password");
		AUTO_FREE char *shown = duct_dsn_redact(cases[i].dsn);
		if (password && *password) {
			with_password++;
			assert_null(strstr(shown, password));
		}
		PQconninfoFree(options);
	}
	assert_true(with_password >= 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shows_what_is_harmless),
		cmocka_unit_test(knows_what_is_torn),
		cmocka_unit_test(agrees_with_libpq),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
