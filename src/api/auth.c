/* Tokens, certificates and the roles they stand for. */
#include "api/auth.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/hex.h"

enum { LEAST_TOKEN = 16, MOST_TOKEN = 1024, MOST_FILE = 1 << 20, LOOK_AGAIN_US = 1000000, BURST = 10 };

struct role_of {
	char *name;
	enum api_role role;
};

struct api_auth {
	const struct duct_log *log;
	char *path; /* of the tokens file, NULL: none */
	bool has_env, certificates;
	struct api_token env;
	struct role_of *by_cn;
	size_t nby_cn;

	pthread_mutex_t mutex; /* of what follows */
	struct api_token *tokens;
	size_t ntokens;
	struct stat seen, told; /* of the tokens that count; of the last file that could not be read */
	int64_t looked_us;
	int64_t refilled_us; /* of the lines about refusals */
	int lines_left;
	int64_t left_out;
};

/* ---- texts */

static bool role_named(const char *text, size_t n, enum api_role *ret)
{
	for (enum api_role role = API_VIEWER; role <= API_ADMIN; role++)
		if (strlen(api_role_name(role)) == n && memcmp(api_role_name(role), text, n) == 0) {
			*ret = role;
			return true;
		}
	return false;
}

/* Why a token cannot be one, NULL when it can. */
static const char *token_problem(const char *token, size_t n)
{
	if (n < LEAST_TOKEN)
		return "is shorter than 16 characters";
	if (n > MOST_TOKEN)
		return "is longer than 1,024 characters";
	for (size_t i = 0; i < n; i++)
		if (!isgraph((unsigned char)token[i]))
			return "has a character that is not printable ASCII";
	return NULL;
}

static void digest_of(uint8_t to[32], const char *token, size_t n)
{
	SHA256((const unsigned char *)token, n, to);
}

static bool parse_digest(uint8_t to[32], const char *hex, size_t n)
{
	if (n != 64)
		return false;
	for (size_t i = 0; i < 32; i++) {
		int high = duct_hex_digit(hex[2 * i]), low = duct_hex_digit(hex[2 * i + 1]);
		if (high < 0 || low < 0)
			return false;
		to[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

static bool is_name(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)s[i]) && !memchr("._-@", s[i], 4))
			return false;
	return n > 0;
}

/* The next word of a line. */
static const char *next_word(const char **at, const char *end, size_t *ret_n)
{
	while (*at < end && (**at == ' ' || **at == '\t'))
		++*at;
	const char *word = *at;
	while (*at < end && **at != ' ' && **at != '\t')
		++*at;
	*ret_n = (size_t)(*at - word);
	return word;
}

/* What is in the line is never shown: words may stand in another order than they should. */
static const char *parse_line(struct api_token *to, const char *at, const char *end)
{
	size_t nname, nrole, ntoken, nmore;
	const char *name = next_word(&at, end, &nname), *role = next_word(&at, end, &nrole), *token = next_word(&at, end, &ntoken);
	next_word(&at, end, &nmore);
	if (ntoken == 0 || nmore != 0)
		return "a line is NAME ROLE TOKEN, with spaces between them";
	if (!is_name(name, nname) || nname >= sizeof to->name)
		return "a name has at most 47 letters, digits, and characters of ._-@";
	if (!role_named(role, nrole, &to->role))
		return "the second word is a role: viewer, operator or admin";
	memcpy(to->name, name, nname);
	to->name[nname] = 0;
	if (ntoken > 7 && memcmp(token, "sha256:", 7) == 0)
		return parse_digest(to->digest, token + 7, ntoken - 7) ? NULL : "sha256: is followed by 64 hexadecimal digits";
	const char *problem = token_problem(token, ntoken);
	if (!problem)
		digest_of(to->digest, token, ntoken);
	return problem ? "the token is shorter than 16 characters, longer than 1,024, or has one that is not printable ASCII"
		       : NULL;
}

int api_tokens_parse(struct api_token **ret, size_t *ret_n, const char *text, size_t n, const char *where, struct duct_error *err)
{
	AUTO_FREE struct api_token *tokens = NULL;
	size_t count = 0, cap = 0;
	int line = 0;
	for (const char *at = text, *end = text + n; at < end;) {
		const char *stop = memchr(at, '\n', (size_t)(end - at));
		stop = stop ? stop : end;
		const char *last = stop > at && stop[-1] == '\r' ? stop - 1 : stop;
		line++;
		const char *first = at;
		while (first < last && (*first == ' ' || *first == '\t'))
			first++;
		at = stop + 1;
		if (first == last || *first == '#')
			continue;
		tokens = duct_grow(tokens, &cap, count + 1, sizeof *tokens);
		tokens[count] = (struct api_token){0};
		const char *problem = parse_line(&tokens[count], first, last);
		for (size_t i = 0; i < count && !problem; i++) {
			if (strcmp(tokens[i].name, tokens[count].name) == 0)
				problem = "the name is given twice";
			else if (memcmp(tokens[i].digest, tokens[count].digest, 32) == 0)
				problem = "the token is given twice";
		}
		if (problem)
			return duct_fail(err, DUCT_CONFIG, "%s:%d: %s", where, line, problem);
		count++;
	}
	*ret = duct_steal(&tokens);
	*ret_n = count;
	return 0;
}

const char *api_bearer_token(const char *header, size_t n, size_t *ret_n)
{
	if (n < 8 || strncasecmp(header, "bearer ", 7) != 0)
		return NULL;
	const char *token = header + 7, *end = header + n;
	while (token < end && *token == ' ')
		token++;
	while (end > token && end[-1] == ' ')
		end--;
	*ret_n = (size_t)(end - token);
	return *ret_n ? token : NULL;
}

/* ---- the file */

static int read_whole(int fd, struct duct_buf *to, const char *path, struct duct_error *err)
{
	for (;;) {
		ssize_t n = read(fd, duct_buf_room(to, 4096), 4096);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return duct_fail(err, DUCT_CONFIG, "DUCTSTREAM_TOKENS_FILE \"%s\": %s", path, strerror(errno));
		if (n == 0)
			return 0;
		to->len += (size_t)n;
		if (to->len > MOST_FILE)
			return duct_fail(err, DUCT_CONFIG, "DUCTSTREAM_TOKENS_FILE \"%s\" is larger than 1 MiB", path);
	}
}

/* The mode is looked at on the open file, so it is the one that is read. */
static int read_tokens(const char *path, struct api_token **ret, size_t *ret_n, struct stat *ret_stat, struct duct_error *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return duct_fail(err, DUCT_CONFIG, "DUCTSTREAM_TOKENS_FILE \"%s\": %s", path, strerror(errno));
	AUTO_BUF struct duct_buf text = {0};
	int rc = 0;
	if (fstat(fd, ret_stat) < 0 || !S_ISREG(ret_stat->st_mode))
		rc = duct_fail(err, DUCT_CONFIG, "DUCTSTREAM_TOKENS_FILE \"%s\" is not a file", path);
	else if (ret_stat->st_mode & 077)
		rc = duct_fail(
			err, DUCT_CONFIG,
			"DUCTSTREAM_TOKENS_FILE \"%s\" may be read by others (mode %04o): run `chmod 600` on it, and replace the tokens",
			path, (unsigned)ret_stat->st_mode & 07777);
	else
		rc = read_whole(fd, &text, path, err);
	close(fd);
	if (rc == 0)
		rc = api_tokens_parse(ret, ret_n, text.data, text.len, path, err);
	if (text.data)
		OPENSSL_cleanse(text.data, text.cap);
	return rc;
}

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_ino == b->st_ino && a->st_dev == b->st_dev && a->st_size == b->st_size && a->st_mode == b->st_mode &&
		a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
		a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/* With the mutex held: at most once a second, tokens of a file that has changed. */
static void look_again(struct api_auth *auth)
{
	int64_t now = duct_mono_us();
	struct stat st;
	if (!auth->path || now - auth->looked_us < LOOK_AGAIN_US)
		return;
	auth->looked_us = now;
	if (stat(auth->path, &st) < 0 || same_file(&st, &auth->seen))
		return;
	struct duct_error err;
	struct api_token *tokens;
	size_t n;
	if (read_tokens(auth->path, &tokens, &n, &auth->seen, &err) < 0) {
		if (!same_file(&st, &auth->told))
			log_warn(auth->log, "tokens stay as they were", LOG_STR("reason", err.message));
		auth->seen = (struct stat){0}; /* it is tried again: descriptors may have run out */
		auth->told = st;
		return;
	}
	free(auth->tokens);
	auth->tokens = tokens;
	auth->ntokens = n;
	log_info(auth->log, "tokens read again", LOG_U64("tokens", n));
}

/* ---- roles of certificates */

static int parse_mtls_roles(struct api_auth *auth, const char *text, struct duct_error *err)
{
	size_t cap = 0;
	while (text && *text) {
		size_t n = strcspn(text, ",");
		const char *equals = memrchr(text, '=', n);
		enum api_role role;
		if (!equals || equals == text || !role_named(equals + 1, (size_t)(text + n - equals - 1), &role))
			return duct_fail(err, DUCT_CONFIG,
					 "DUCTSTREAM_MTLS_ROLES: \"%.*s\" is not CN=ROLE with a role of viewer, operator, admin",
					 (int)n, text);
		auth->by_cn = duct_grow(auth->by_cn, &cap, auth->nby_cn + 1, sizeof *auth->by_cn);
		auth->by_cn[auth->nby_cn++] = (struct role_of){duct_xstrndup(text, (size_t)(equals - text)), role};
		text += n;
		text += *text == ',';
	}
	return 0;
}

static enum api_role role_of_cn(const struct api_auth *auth, const char *cn)
{
	for (size_t i = 0; i < auth->nby_cn; i++)
		if (strcmp(auth->by_cn[i].name, cn) == 0)
			return auth->by_cn[i].role;
	return API_VIEWER;
}

/* ---- public */

static int fill(struct api_auth *auth, const struct api_auth_config *config, struct duct_error *err)
{
	const char *problem = config->token ? token_problem(config->token, strlen(config->token)) : NULL;
	if (problem)
		return duct_fail(err, DUCT_CONFIG, "DUCTSTREAM_TOKEN %s", problem);
	if (config->token) {
		auth->has_env = true;
		auth->env = (struct api_token){.name = "env", .role = config->token_role};
		digest_of(auth->env.digest, config->token, strlen(config->token));
	}
	if (config->mtls_roles && !config->certificates)
		return duct_fail(
			err, DUCT_CONFIG,
			"DUCTSTREAM_MTLS_ROLES is set without DUCTSTREAM_TLS_CLIENT_CA_FILE: no client shows a certificate");
	int rc = parse_mtls_roles(auth, config->mtls_roles, err);
	if (rc == 0 && auth->path)
		rc = read_tokens(auth->path, &auth->tokens, &auth->ntokens, &auth->seen, err);
	if (rc == 0 && auth->path && auth->ntokens == 0)
		rc = duct_fail(err, DUCT_CONFIG, "DUCTSTREAM_TOKENS_FILE \"%s\" has no token", auth->path);
	return rc;
}

int api_auth_open(struct api_auth **ret, const struct api_auth_config *config, const struct duct_log *log, struct duct_error *err)
{
	struct api_auth *auth = duct_xcalloc(1, sizeof *auth);
	pthread_mutex_init(&auth->mutex, NULL);
	auth->log = log;
	auth->path = duct_xstrdup(config->tokens_file);
	auth->certificates = config->certificates;
	auth->looked_us = auth->refilled_us = duct_mono_us();
	auth->lines_left = BURST;
	int rc = fill(auth, config, err);
	if (rc) {
		api_auth_free(auth);
		return rc;
	}
	*ret = auth;
	return 0;
}

void api_auth_free(struct api_auth *auth)
{
	if (!auth)
		return;
	for (size_t i = 0; i < auth->nby_cn; i++)
		free(auth->by_cn[i].name);
	free(auth->by_cn);
	free(auth->tokens);
	free(auth->path);
	pthread_mutex_destroy(&auth->mutex);
	free(auth);
}

bool api_auth_has_tokens(const struct api_auth *auth)
{
	return auth->path || auth->has_env;
}

static void become(struct api_identity *ret, const char *kind, const char *name, enum api_role role)
{
	snprintf(ret->name, sizeof ret->name, "%s%s", kind, name);
	ret->role = role;
}

/* Every token is looked at, each in the same time: how long it takes says nothing about any of them. */
static bool find_token(struct api_auth *auth, const char *token, size_t n, struct api_identity *ret)
{
	uint8_t digest[32];
	digest_of(digest, token, n);
	bool found = false;
	if (auth->has_env && CRYPTO_memcmp(digest, auth->env.digest, sizeof digest) == 0) {
		become(ret, "token:", auth->env.name, auth->env.role);
		found = true;
	}
	pthread_mutex_lock(&auth->mutex);
	look_again(auth);
	for (size_t i = 0; i < auth->ntokens; i++)
		if (CRYPTO_memcmp(digest, auth->tokens[i].digest, sizeof digest) == 0) {
			become(ret, "token:", auth->tokens[i].name, auth->tokens[i].role);
			found = true;
		}
	pthread_mutex_unlock(&auth->mutex);
	return found;
}

enum api_code api_auth_identify(struct api_auth *auth, const char *header, size_t n, const char *cn, struct api_identity *ret,
				const char **ret_why)
{
	bool tokens = api_auth_has_tokens(auth);
	size_t ntoken;
	const char *token = header && tokens ? api_bearer_token(header, n, &ntoken) : NULL;
	if (token && find_token(auth, token, ntoken, ret))
		return API_OK;
	if (header && tokens) {
		*ret_why = token ? "the token is not known here" : "authorization must be \"Bearer TOKEN\"";
		return API_UNAUTHENTICATED;
	}
	if (auth->certificates && cn && *cn) {
		become(ret, "cert:", cn, role_of_cn(auth, cn));
		return API_OK;
	}
	if (tokens || auth->certificates) {
		*ret_why = tokens ? "a token is needed: send authorization \"Bearer TOKEN\"" : "the certificate names nobody";
		return API_UNAUTHENTICATED;
	}
	become(ret, "", "local", API_ADMIN);
	return API_OK;
}

void api_auth_log_refusal(struct api_auth *auth, const char *via, const char *peer, const char *method, enum api_code code)
{
	int64_t now = duct_mono_us(), left_out = 0;
	pthread_mutex_lock(&auth->mutex);
	if (now - auth->refilled_us >= 1000000) {
		int64_t more = (now - auth->refilled_us) / 1000000;
		auth->refilled_us += more * 1000000;
		auth->lines_left = more >= BURST - auth->lines_left ? BURST : auth->lines_left + (int)more;
	}
	bool shown = auth->lines_left > 0;
	if (shown) {
		auth->lines_left--;
		left_out = auth->left_out;
		auth->left_out = 0;
	} else {
		auth->left_out++;
	}
	pthread_mutex_unlock(&auth->mutex);
	if (shown)
		log_warn(auth->log, "call refused", LOG_STR("code", api_code_name(code)), LOG_STR("method", method),
			 LOG_STR("via", via), LOG_STR("peer", peer), LOG_I64("left_out", left_out));
}
