/* Secrets at rest: sealed under their names, by one key per state; the key file. */
#include "state_engines.h"

#include <fcntl.h>
#include <sys/stat.h>

static char *seal(struct engine *e, const char *name, const char *secret)
{
	struct duct_error err;
	char *text = state_seal(e->state, &e->arena, name, secret, &err);
	ASSERT_OK(text ? 0 : -1, &err);
	return text;
}

static void opens_what_it_sealed(void **state)
{
	static const char *const secrets[] = {"hunter2", "", "x", "ü\n\"quoted\"", "postgres://me:hunter2@host/db?sslmode=require"};
	struct duct_error err;
	struct engine *e = *state;
	for (size_t i = 0; i < DUCT_LEN(secrets); i++) {
		const char *text = seal(e, "flow/shop/source/dsn", secrets[i]),
			   *again = seal(e, "flow/shop/source/dsn", secrets[i]);
		assert_memory_equal(text, "enc:v1:", 7);
		assert_string_not_equal(text, again); /* a nonce of its own each */
		assert_null(strstr(text, "hunter2"));
		assert_string_equal(state_unseal(e->state, &e->arena, "flow/shop/source/dsn", text, &err), secrets[i]);
		assert_string_equal(state_unseal(e->state, &e->arena, "flow/shop/source/dsn", again, &err), secrets[i]);
	}
	assert_string_equal(state_unseal(e->state, &e->arena, "x", "${SHOP_DSN}", &err), "${SHOP_DSN}");
}

static void refused(struct engine *e, const char *name, const char *text)
{
	struct duct_error err;
	assert_null(state_unseal(e->state, &e->arena, name, text, &err));
	assert_int_equal(err.class, DUCT_CONFIG);
	assert_null(strstr(err.message, "hunter2"));
	assert_non_null(strstr(err.message, name));
}

static void opens_nothing_else(void **state)
{
	struct engine *e = *state;
	const char *text = seal(e, "flow/shop/source/dsn", "hunter2");
	refused(e, "flow/other/source/dsn", text); /* moved to another place */
	for (size_t i = 7; text[i]; i++) {
		char *changed = duct_arena_strdup(&e->arena, text);
		changed[i] = changed[i] == 'A' ? 'B' : 'A';
		refused(e, "flow/shop/source/dsn", changed);
	}
	for (size_t n = 7; n < strlen(text); n++) {
		char *cut = duct_arena_strdup(&e->arena, text);
		cut[n] = 0;
		refused(e, "flow/shop/source/dsn", cut);
	}
	refused(e, "flow/shop/source/dsn", "enc:v1:===="), refused(e, "flow/shop/source/dsn", "enc:v1:?!,;");
}

/* --- one key per state --- */

static struct state *open_with(struct engine *e, const uint8_t *key, const char *path)
{
	struct duct_error err;
	struct state *state;
	struct state_config config = e->config;
	config.secret_key = key;
	config.secret_key_path = path;
	ASSERT_OK(state_open(&state, &config, &err), &err);
	return state;
}

static void another_key_is_refused(void **state)
{
	static const uint8_t other_key[32] = {9};
	struct duct_error err;
	struct engine *e = *state;
	const char *text = seal(e, "name", "hunter2");
	struct state *other = open_with(e, other_key, NULL), *same = open_with(e, engine_key, NULL);
	assert_null(state_unseal(other, &e->arena, "name", text, &err));
	assert_int_equal(err.class, DUCT_CONFIG);
	assert_non_null(strstr(err.message, "DUCTSTREAM_SECRET_KEY"));
	assert_null(state_seal(other, &e->arena, "name", "hunter2", &err)); /* half of the secrets under another key */
	assert_int_equal(err.class, DUCT_CONFIG);
	assert_null(strstr(err.message, "hunter2"));
	assert_string_equal(state_unseal(same, &e->arena, "name", text, &err), "hunter2");
	assert_non_null(state_seal(same, &e->arena, "name", "hunter2", &err));
	state_close(other);
	state_close(same);
}

static void makes_its_key_file_once(void **state)
{
	struct duct_error err;
	struct stat st;
	struct engine *e = *state;
	AUTO_FREE char *path = duct_xasprintf("%s/keys/secret.key", e->folder);
	struct state *first = open_with(e, NULL, path), *second = open_with(e, NULL, path);
	assert_null(state_unseal(first, &e->arena, "name", "enc:v1:AAAA", &err)); /* opening makes none */
	assert_non_null(strstr(err.message, path));
	assert_int_not_equal(access(path, F_OK), 0);
	const char *text = state_seal(first, &e->arena, "name", "hunter2", &err);
	assert_non_null(text);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(st.st_size, 65);
	assert_int_equal(st.st_nlink, 1);
	assert_string_equal(state_unseal(second, &e->arena, "name", text, &err), "hunter2");
	state_close(first);
	state_close(second);
}

static void key_file_refused(struct engine *e, const char *path, const char *part)
{
	struct duct_error err;
	struct state *with = open_with(e, NULL, path);
	assert_null(state_seal(with, &e->arena, "name", "hunter2", &err));
	assert_int_equal(err.class, DUCT_CONFIG);
	if (!strstr(err.message, part))
		fail_msg("\"%s\" is not in: %s", part, err.message);
	assert_null(strstr(err.message, "0123456789abcdef"));
	state_close(with);
}

static void write_file(const char *path, const char *text, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

static void refuses_bad_key_files(void **state)
{
	static const char good[] = "0123456789abcdef0123456789ABCDEF0123456789abcdef0123456789abcdef\r\n";
	struct duct_error err;
	struct engine *e = *state;
	AUTO_FREE char *path = duct_xasprintf("%s/key", e->folder), *longer = duct_xasprintf("%.64s0\n", good);
	AUTO_FREE char *bad = duct_xasprintf("%.63sg\n", good);
	write_file(path, good, 0644);
	key_file_refused(e, path, "chmod 600");
	write_file(path, good, 0620);
	key_file_refused(e, path, "chmod 600");
	write_file(path, good + 1, 0600);
	key_file_refused(e, path, "not 64 hex digits");
	write_file(path, bad, 0600);
	key_file_refused(e, path, "not 64 hex digits");
	write_file(path, longer, 0600);
	key_file_refused(e, path, "more than 64");
	key_file_refused(e, e->folder, "is not a file");
	key_file_refused(e, NULL, "DUCTSTREAM_SECRET_KEY");
	write_file(path, good, 0400);
	struct state *with = open_with(e, NULL, path);
	assert_non_null(state_seal(with, &e->arena, "name", "hunter2", &err));
	state_close(with);
}

/* Programs that seal the first secret at the same time end up with one key. */
static void seal_once(void *arg, struct engine_line *line, int number)
{
	struct duct_error err;
	struct duct_arena arena;
	struct state *state;
	(void)number;
	if (state_open(&state, arg, &err) < 0)
		_exit(1);
	duct_arena_init(&arena);
	engine_line_up(line);
	if (!state_seal(state, &arena, "name", "hunter2", &err)) {
		print_error("%s\n", err.message);
		_exit(2);
	}
	duct_arena_done(&arena);
	state_close(state);
}

static void several_programs_make_one_key(void **state)
{
	struct engine *e = *state;
	AUTO_FREE char *path = duct_xasprintf("%s/new/secret.key", e->folder);
	struct state_config config = e->config;
	config.secret_key = NULL;
	config.secret_key_path = path;
	for (int round = 0; round < 5; round++) {
		struct duct_error err;
		struct state_db *db = state_lend(e->state, &err);
		ASSERT_OK(STATE_RUN(db, "DELETE FROM settings", NULL, NULL, &err), &err);
		state_return(e->state, db);
		engine_close(e);
		(void)unlink(path);
		assert_int_equal(engine_race(8, seal_once, &config), 0);
		engine_open(e);
	}
}

int main(void)
{
	const struct engine_test tests[] = {
		ENGINE_TEST(opens_what_it_sealed),   ENGINE_TEST(opens_nothing_else),
		ENGINE_TEST(another_key_is_refused), ENGINE_TEST(makes_its_key_file_once),
		ENGINE_TEST(refuses_bad_key_files),  ENGINE_TEST(several_programs_make_one_key),
	};
	return engine_run("state_secret", tests, DUCT_LEN(tests));
}
