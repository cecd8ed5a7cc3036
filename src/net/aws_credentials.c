/* Keys that are given: see aws_credentials.h. */
#include "net/aws_credentials.h"

#include <string.h>

#include "base/mem.h"

struct aws_credentials {
	struct aws_keys keys;
};

static void forget(char *secret)
{
	if (secret)
		explicit_bzero(secret, strlen(secret));
	free(secret);
}

void aws_keys_done(struct aws_keys *keys)
{
	free(keys->access_key);
	forget(keys->secret_key);
	forget(keys->session_token);
	free(keys->who);
	*keys = (struct aws_keys){0};
}

struct aws_credentials *aws_credentials_fixed(const char *access_key, const char *secret_key, const char *session_token)
{
	struct aws_credentials *credentials = duct_xcalloc(1, sizeof *credentials);
	credentials->keys = (struct aws_keys){
		.access_key = duct_xstrdup(access_key),
		.secret_key = duct_xstrdup(secret_key),
		.session_token = duct_xstrdup(session_token),
		.who = duct_xasprintf("access key %.4s...", access_key),
	};
	return credentials;
}

void aws_credentials_close(struct aws_credentials *credentials)
{
	if (!credentials)
		return;
	aws_keys_done(&credentials->keys);
	free(credentials);
}

int aws_credentials_get(struct aws_credentials *credentials, struct aws_keys *ret, struct duct_error *err)
{
	(void)err;
	*ret = (struct aws_keys){
		.access_key = duct_xstrdup(credentials->keys.access_key),
		.secret_key = duct_xstrdup(credentials->keys.secret_key),
		.session_token = duct_xstrdup(credentials->keys.session_token),
		.who = duct_xstrdup(credentials->keys.who),
	};
	return 0;
}

bool aws_credentials_expired(struct aws_credentials *credentials, const char *access_key)
{
	(void)credentials;
	(void)access_key;
	return false;
}
