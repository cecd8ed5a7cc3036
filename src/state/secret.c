/* Secrets at rest, and the key to them: see state.h. */
#include "state/state_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/folder.h"
#include "base/hex.h"
#include "base/uuid.h"
#include "state/db_internal.h"

enum { NONCE = 12, TAG = 16, HEX_KEY = 2 * STATE_KEY_BYTES };

static const char prefix[] = "enc:v1:";
static const char mark_name[] = "settings/secret_mark", mark_text[] = "this key opens the secrets of this state";

void state_key_forget(struct state *state)
{
	OPENSSL_cleanse(state->key, sizeof state->key);
	state->has_key = false;
}

/* --- the key file --- */

static void random_bytes(uint8_t *to, size_t n)
{
	if (getrandom(to, n, 0) != (ssize_t)n)
		abort(); /* never for so few bytes */
}

/* Written aside and linked to its name: of programs that start together one wins, and nobody reads half a key. */
static int write_key(const char *path, const char *hex, struct duct_error *err)
{
	char unique[DUCT_UUID_LEN];
	AUTO_FREE char *aside = duct_xasprintf("%s.%s", path, duct_uuid_v4(unique));
	int fd = open(aside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	bool done = fd >= 0 && write(fd, hex, HEX_KEY + 1) == HEX_KEY + 1 && fsync(fd) == 0;
	done = done && (link(aside, path) == 0 || errno == EEXIST);
	int rc = done ? 0 : duct_fail(err, DUCT_CONFIG, "key file \"%s\" cannot be made: %s", path, strerror(errno));
	if (fd >= 0)
		(void)close(fd);
	(void)unlink(aside);
	if (rc == 0 && duct_folder_sync(path, err))
		rc = duct_wrap(err, "key file \"%s\"", path);
	return rc;
}

static int make_key(const char *path, struct duct_error *err)
{
	uint8_t key[STATE_KEY_BYTES];
	char hex[HEX_KEY + 2];
	if (duct_folders_make(path, 0700, err))
		return duct_wrap(err, "key file \"%s\"", path);
	random_bytes(key, sizeof key);
	for (size_t i = 0; i < sizeof key; i++)
		(void)snprintf(hex + 2 * i, 3, "%02x", key[i]);
	hex[HEX_KEY] = '\n';
	int rc = write_key(path, hex, err);
	OPENSSL_cleanse(key, sizeof key);
	OPENSSL_cleanse(hex, sizeof hex);
	return rc;
}

/* Others may not read it; the group may when it is root's, as secrets are mounted in containers. */
static int check_mode(const char *path, const struct stat *st, struct duct_error *err)
{
	if (!S_ISREG(st->st_mode))
		return duct_fail(err, DUCT_CONFIG, "key file \"%s\" is not a file", path);
	if (st->st_mode & (st->st_uid == 0 && geteuid() != 0 ? 027 : 077))
		return duct_fail(err, DUCT_CONFIG, "key file \"%s\" can be read or written by others: chmod 600 it", path);
	return 0;
}

static int parse_key(struct state *state, const char *text, struct duct_error *err)
{
	for (int i = 0; i < HEX_KEY; i++) {
		int digit = duct_hex_digit(text[i]);
		if (digit < 0)
			return duct_fail(err, DUCT_CONFIG, "key file \"%s\": not %d hex digits", state->key_path, HEX_KEY);
		state->key[i / 2] = (uint8_t)(state->key[i / 2] << 4 | digit);
	}
	if (text[HEX_KEY + strspn(text + HEX_KEY, " \t\r\n")])
		return duct_fail(err, DUCT_CONFIG, "key file \"%s\": more than %d hex digits", state->key_path, HEX_KEY);
	state->has_key = true;
	return 0;
}

static int read_key(struct state *state, int fd, struct duct_error *err)
{
	char text[256] = "";
	struct stat st;
	if (fstat(fd, &st) < 0)
		return duct_fail(err, DUCT_CONFIG, "key file \"%s\": %s", state->key_path, strerror(errno));
	int rc = check_mode(state->key_path, &st, err);
	if (rc < 0)
		return rc;
	ssize_t n = read(fd, text, sizeof text - 1);
	if (n < 0)
		return duct_fail(err, DUCT_CONFIG, "key file \"%s\" cannot be read: %s", state->key_path, strerror(errno));
	rc = parse_key(state, text, err);
	OPENSSL_cleanse(text, sizeof text);
	return rc;
}

/* Under the lock. */
static int load_key(struct state *state, bool make, struct duct_error *err)
{
	if (state->has_key)
		return 0;
	if (!state->key_path)
		return duct_fail(err, DUCT_CONFIG,
				 "there is no key for secrets: set DUCTSTREAM_SECRET_KEY or DUCTSTREAM_SECRET_KEY_FILE");
	int fd = open(state->key_path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT && make) {
		int rc = make_key(state->key_path, err);
		if (rc < 0)
			return rc;
		fd = open(state->key_path, O_RDONLY | O_CLOEXEC);
	}
	if (fd < 0)
		return duct_fail(
			err, DUCT_CONFIG,
			"key file \"%s\": %s; every machine that shares this state has the same DUCTSTREAM_SECRET_KEY or key file",
			state->key_path, strerror(errno));
	int rc = read_key(state, fd, err);
	(void)close(fd);
	return rc;
}

/* --- seal and unseal --- */

/* nonce, sealed text, tag; `n` is the secret's length. */
static bool encrypt(const uint8_t *key, const char *name, const char *secret, size_t n, uint8_t *to)
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	int out;
	random_bytes(to, NONCE);
	bool good = ctx && EVP_EncryptInit_ex(ctx, EVP_aes_256_gcm(), NULL, key, to) == 1 &&
		EVP_EncryptUpdate(ctx, NULL, &out, (const uint8_t *)name, (int)strlen(name)) == 1 &&
		EVP_EncryptUpdate(ctx, to + NONCE, &out, (const uint8_t *)secret, (int)n) == 1 &&
		EVP_EncryptFinal_ex(ctx, to + NONCE + n, &out) == 1 &&
		EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, TAG, to + NONCE + n) == 1;
	EVP_CIPHER_CTX_free(ctx);
	return good;
}

/* `n` bytes between nonce and tag; `to` has room for them. */
static bool decrypt(const uint8_t *key, const char *name, uint8_t *from, size_t n, uint8_t *to)
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	int out;
	bool good = ctx && EVP_DecryptInit_ex(ctx, EVP_aes_256_gcm(), NULL, key, from) == 1 &&
		EVP_DecryptUpdate(ctx, NULL, &out, (const uint8_t *)name, (int)strlen(name)) == 1 &&
		EVP_DecryptUpdate(ctx, to, &out, from + NONCE, (int)n) == 1 &&
		EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG, TAG, from + NONCE + n) == 1 &&
		EVP_DecryptFinal_ex(ctx, to + n, &out) == 1;
	EVP_CIPHER_CTX_free(ctx);
	return good;
}

static char *seal(const uint8_t *key, struct duct_arena *arena, const char *name, const char *secret)
{
	size_t n = strlen(secret), bytes = NONCE + n + TAG;
	uint8_t *raw = duct_arena_alloc(arena, bytes);
	char *text = duct_arena_alloc(arena, sizeof prefix + (bytes + 2) / 3 * 4);
	if (!encrypt(key, name, secret, n, raw))
		abort(); /* out of memory */
	memcpy(text, prefix, sizeof prefix);
	EVP_EncodeBlock((uint8_t *)text + sizeof prefix - 1, raw, (int)bytes);
	return text;
}

/* The bytes of a base64 text in its one spelling; -1: it is none. `to` has room for n bytes. */
static int decode(const char *text, size_t n, uint8_t *to)
{
	int bytes = n % 4 ? -1 : EVP_DecodeBlock(to, (const uint8_t *)text, (int)n);
	AUTO_FREE char *again = duct_xmalloc(n + 1);
	for (size_t i = n; bytes > 0 && i > 0 && text[i - 1] == '=' && n - i < 2; i--)
		bytes--;
	return bytes > 0 && EVP_EncodeBlock((uint8_t *)again, to, bytes) == (int)n && memcmp(again, text, n) == 0 ? bytes : -1;
}

/* NULL: not ours, or changed. */
static char *unseal(const uint8_t *key, struct duct_arena *arena, const char *name, const char *text)
{
	const char *coded = text + sizeof prefix - 1;
	size_t len = strlen(coded);
	uint8_t *raw = duct_arena_alloc(arena, len + 1);
	int bytes = decode(coded, len, raw);
	if (bytes < NONCE + TAG)
		return NULL;
	size_t n = (size_t)bytes - NONCE - TAG;
	char *secret = duct_arena_zalloc(arena, n + 1);
	return decrypt(key, name, raw, n, (uint8_t *)secret) ? secret : NULL;
}

static int take_text(void *arg, const struct state_row *row, struct duct_error *err)
{
	(void)err;
	*(char **)arg = duct_xstrdup(state_row_text(row, 0));
	return 0;
}

/* Two keys in one state would make half of its secrets useless wherever one of them is missing. Under the lock. */
static int check_mark(struct state *state, struct duct_arena *arena, struct duct_error *err)
{
	AUTO_FREE char *mark = NULL;
	if (state->key_marked)
		return 0;
	int64_t rc = STATE_QUERY(state, "INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING", NULL,
				 NULL, err, state_text(mark_name), state_text(seal(state->key, arena, mark_name, mark_text)));
	if (rc >= 0)
		rc = STATE_QUERY(state, "SELECT value FROM settings WHERE name = $1", take_text, &mark, err, state_text(mark_name));
	if (rc < 0)
		return (int)rc;
	if (!mark || strncmp(mark, prefix, sizeof prefix - 1) != 0 || !unseal(state->key, arena, mark_name, mark))
		return duct_fail(err, DUCT_CONFIG,
				 "the secrets in %s are sealed with another key: every machine that shares a state has the same "
				 "DUCTSTREAM_SECRET_KEY or key file",
				 state->where);
	state->key_marked = true;
	return 0;
}

char *state_seal(struct state *state, struct duct_arena *arena, const char *name, const char *secret, struct duct_error *err)
{
	pthread_mutex_lock(&state->key_lock);
	int rc = load_key(state, true, err);
	if (rc == 0)
		rc = check_mark(state, arena, err);
	char *text = rc == 0 ? seal(state->key, arena, name, secret) : NULL;
	pthread_mutex_unlock(&state->key_lock);
	return text;
}

char *state_unseal(struct state *state, struct duct_arena *arena, const char *name, const char *text, struct duct_error *err)
{
	if (strncmp(text, prefix, sizeof prefix - 1) != 0)
		return duct_arena_strdup(arena, text);
	pthread_mutex_lock(&state->key_lock);
	int rc = load_key(state, false, err);
	char *secret = rc == 0 ? unseal(state->key, arena, name, text) : NULL;
	pthread_mutex_unlock(&state->key_lock);
	if (rc == 0 && !secret)
		(void)duct_fail(
			err, DUCT_CONFIG,
			"secret \"%s\" cannot be opened: it was sealed with another key, or changed; every machine that shares a "
			"state has the same DUCTSTREAM_SECRET_KEY or key file",
			name);
	return secret;
}
