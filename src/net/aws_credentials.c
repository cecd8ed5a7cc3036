/* The chain, and when it is asked again: see aws_credentials.h. */
#include "net/aws_credentials.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "net/aws_internal.h"

enum { RENEWAL_S = 300, STS_STALL_MS = 10000, STS_RETRY_MS = 15000, NEAR_MS = 1000, NEAR_TRIES = 2 };
/* After a renewal that failed while the old keys serve, at most. */
enum { AGAIN_US = 60 * 1000 * 1000 };

struct aws_credentials {
	struct s3_options options; /* of which keys, role, region and ca_file count */
	int stop_fd;
	pthread_mutex_t lock; /* of what follows */
	struct aws_keys keys;
	int64_t renew_us; /* of the wall clock; 0: not before a server says so */
	bool stale;
};

void aws_forget(char *secret)
{
	if (secret)
		explicit_bzero(secret, strlen(secret));
	free(secret);
}

const char *aws_env(const char *name)
{
	const char *value = getenv(name);
	return value && *value ? value : NULL;
}

int aws_read_file(const char *path, const char *what, struct duct_buf *to, bool *ret_found, struct duct_error *err)
{
	*ret_found = false;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
		return 0;
	if (fd < 0)
		return duct_fail(err, DUCT_CONFIG, "%s: %s cannot be opened: %s", what, path, strerror(errno));
	ssize_t n = 1;
	while (n > 0 && to->len <= AWS_MOST_FILE) {
		n = read(fd, duct_buf_room(to, 65536), 65536);
		to->len += n > 0 ? (size_t)n : 0;
	}
	int failed = n < 0 ? errno : 0;
	close(fd);
	duct_buf_append(to, "", 0);
	if (failed || to->len > AWS_MOST_FILE)
		return duct_fail(err, DUCT_CONFIG, "%s: %s cannot be read: %s", what, path,
				 failed ? strerror(failed) : "it is too long");
	*ret_found = to->len > 0;
	return 0;
}

/* --- keys --- */

void aws_keys_done(struct aws_keys *keys)
{
	free(keys->access_key);
	aws_forget(keys->secret_key);
	aws_forget(keys->session_token);
	free(keys->who);
	*keys = (struct aws_keys){0};
}

int aws_keys_of_texts(struct aws_keys *ret, const char *access_key, const char *secret_key, const char *session_token,
		      const char *of)
{
	*ret = (struct aws_keys){
		.access_key = duct_xstrdup(access_key),
		.secret_key = duct_xstrdup(secret_key),
		.session_token = session_token && *session_token ? duct_xstrdup(session_token) : NULL,
		.who = duct_xasprintf("access key %.4s...%s%s", access_key, of ? " of " : "", of ? of : ""),
	};
	return 1;
}

static void copy_keys(struct aws_keys *to, const struct aws_keys *from)
{
	*to = (struct aws_keys){
		.access_key = duct_xstrdup(from->access_key),
		.secret_key = duct_xstrdup(from->secret_key),
		.session_token = duct_xstrdup(from->session_token),
		.who = duct_xstrdup(from->who),
		.expires_us = from->expires_us,
	};
}

/* --- the chain --- */

int aws_of_environment(struct aws_keys *ret, struct duct_error *err)
{
	const char *access_key = aws_env("AWS_ACCESS_KEY_ID"), *secret_key = aws_env("AWS_SECRET_ACCESS_KEY");
	if (!access_key && !secret_key)
		return 0;
	if (!access_key || !secret_key)
		return duct_fail(err, DUCT_CONFIG, "environment: %s is set without %s",
				 access_key ? "AWS_ACCESS_KEY_ID" : "AWS_SECRET_ACCESS_KEY",
				 access_key ? "AWS_SECRET_ACCESS_KEY" : "AWS_ACCESS_KEY_ID");
	return aws_keys_of_texts(ret, access_key, secret_key, aws_env("AWS_SESSION_TOKEN"), "the environment");
}

static int of_web_identity(struct aws_chain *chain, struct aws_keys *ret, struct duct_error *err)
{
	const char *file = aws_env("AWS_WEB_IDENTITY_TOKEN_FILE");
	const struct aws_role role = {aws_env("AWS_ROLE_ARN"), NULL, aws_env("AWS_ROLE_SESSION_NAME")};
	if (!file)
		return 0;
	if (!role.arn)
		return duct_fail(err, DUCT_CONFIG, "web identity: AWS_WEB_IDENTITY_TOKEN_FILE is set without AWS_ROLE_ARN");
	int rc = aws_assume_by_token(chain, &role, file, ret, err);
	return rc < 0 ? rc : 1;
}

static int of_chain(struct aws_chain *chain, struct aws_keys *ret, struct duct_error *err)
{
	int rc = aws_of_environment(ret, err);
	if (rc == 0)
		rc = of_web_identity(chain, ret, err);
	if (rc == 0)
		rc = aws_of_files(chain, ret, err);
	if (rc == 0)
		rc = aws_of_container(chain, ret, err);
	if (rc == 0)
		rc = aws_of_instance(chain, ret, err);
	if (rc == 0)
		return duct_fail(
			err, DUCT_CONFIG,
			"no keys: AWS_ACCESS_KEY_ID and AWS_WEB_IDENTITY_TOKEN_FILE are not set, the shared files have no profile "
			"\"default\" with keys, and this is neither a container nor an instance that has a role");
	return rc;
}

static bool is_plain(const char *text, unsigned char from)
{
	for (; text && *text; text++)
		if ((unsigned char)*text < from || (unsigned char)*text > 0x7e)
			return false;
	return true;
}

/* What goes into headers would end them there. A line break at the end is what a file or an editor leaves. */
static int check(const struct aws_keys *keys, struct duct_error *err)
{
	const char *what = !is_plain(keys->access_key, '!') ? "access key"
		: !is_plain(keys->secret_key, ' ')	    ? "secret key"
		: !is_plain(keys->session_token, '!')	    ? "session token"
							    : NULL;
	return what ? duct_fail(err, DUCT_CONFIG, "the %s has a line break or another character in it that none can have", what)
		    : 0;
}

static int ask(const struct aws_credentials *credentials, struct aws_chain *chain, struct aws_keys *ret, struct duct_error *err)
{
	const struct s3_options *options = &credentials->options;
	AUTO_KEYS struct aws_keys with = {0};
	int rc = options->access_key ? aws_keys_of_texts(&with, options->access_key, options->secret_key ? options->secret_key : "",
							 options->session_token, NULL)
				     : of_chain(chain, &with, err);
	if (rc < 0 || check(&with, err) < 0)
		return -(int)err->class;
	if (options->role_arn) {
		const struct aws_role role = {options->role_arn, options->external_id, NULL};
		rc = aws_assume_role(chain, &role, &with, ret, err);
		rc = rc < 0 ? rc : check(ret, err);
		if (rc < 0)
			aws_keys_done(ret);
		return rc;
	}
	*ret = with;
	with = (struct aws_keys){0};
	return 0;
}

static int ask_anew(const struct aws_credentials *credentials, struct aws_keys *ret, struct duct_error *err)
{
	struct http_settings far = http_defaults, near = http_defaults;
	far.at_once = near.at_once = 1;
	far.stall_ms = STS_STALL_MS;
	far.retry_ms = STS_RETRY_MS;
	far.ca_file = credentials->options.ca_file;
	near.connect_ms = NEAR_MS;
	near.stall_ms = NEAR_MS * 5;
	near.tries = NEAR_TRIES;
	struct aws_chain chain = {
		.region = s3_region(&credentials->options),
		.http = http_open(&far, credentials->stop_fd),
		.local = http_open(&near, credentials->stop_fd),
	};
	int rc = ask(credentials, &chain, ret, err);
	http_close(chain.http);
	http_close(chain.local);
	return rc < 0 ? duct_wrap(err, "AWS credentials") : 0;
}

/* --- the object --- */

struct aws_credentials *aws_credentials_open(const struct s3_options *options, int stop_fd)
{
	struct aws_credentials *credentials = duct_xcalloc(1, sizeof *credentials);
	s3_options_copy(&credentials->options, options);
	credentials->stop_fd = stop_fd;
	pthread_mutex_init(&credentials->lock, NULL);
	return credentials;
}

void aws_credentials_close(struct aws_credentials *credentials)
{
	if (!credentials)
		return;
	s3_options_done(&credentials->options);
	aws_keys_done(&credentials->keys);
	pthread_mutex_destroy(&credentials->lock);
	free(credentials);
}

static void put(struct aws_credentials *credentials, struct aws_keys *keys, int64_t now_us)
{
	int64_t margin_us = (keys->expires_us - now_us) / 4;
	if (margin_us > (int64_t)RENEWAL_S * 1000000)
		margin_us = (int64_t)RENEWAL_S * 1000000;
	aws_keys_done(&credentials->keys);
	credentials->keys = *keys;
	credentials->renew_us = keys->expires_us ? keys->expires_us - margin_us : 0;
	credentials->stale = false;
}

/* Under the lock: whoever comes meanwhile waits for the same keys. */
static int make_current(struct aws_credentials *credentials, struct duct_error *err)
{
	int64_t now_us = duct_wall_us();
	struct aws_keys fresh = {0};
	bool have = credentials->keys.access_key && !credentials->stale;
	if (have && (!credentials->renew_us || now_us < credentials->renew_us))
		return 0;
	int rc = ask_anew(credentials, &fresh, err);
	if (rc == 0) {
		put(credentials, &fresh, now_us);
		return 0;
	}
	int64_t left_us = credentials->keys.expires_us - duct_wall_us();
	if (!have || left_us <= 0 || rc == -DUCT_CANCELLED)
		return rc;
	credentials->renew_us = credentials->keys.expires_us - left_us + (left_us / 4 < AGAIN_US ? left_us / 4 : AGAIN_US);
	return 0;
}

int aws_credentials_get(struct aws_credentials *credentials, struct aws_keys *ret, struct duct_error *err)
{
	pthread_mutex_lock(&credentials->lock);
	int rc = make_current(credentials, err);
	if (rc == 0)
		copy_keys(ret, &credentials->keys);
	pthread_mutex_unlock(&credentials->lock);
	return rc;
}

bool aws_credentials_expired(struct aws_credentials *credentials, const char *access_key)
{
	const struct s3_options *options = &credentials->options;
	if (options->access_key && !options->role_arn)
		return false;
	pthread_mutex_lock(&credentials->lock);
	if (credentials->keys.access_key && strcmp(credentials->keys.access_key, access_key) == 0)
		credentials->stale = true;
	pthread_mutex_unlock(&credentials->lock);
	return true;
}
