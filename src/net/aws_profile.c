/* Keys of the shared files: a profile has them, or a role and whose keys assume it. */
#include <string.h>

#include "net/aws_internal.h"

enum { MOST_SOURCES = 5 };

static char *path_of(const char *variable, const char *file)
{
	const char *given = aws_env(variable), *home = aws_env("HOME");
	if (given && strncmp(given, "~/", 2) == 0 && home)
		return duct_xasprintf("%s%s", home, given + 1);
	return given ? duct_xstrdup(given) : duct_xasprintf("%s/.aws/%s", home ? home : "", file);
}

static int take_file(struct aws_profile *to, const char *variable, const char *file, const char *name, struct duct_error *err)
{
	AUTO_FREE char *path = path_of(variable, file);
	AUTO_BUF struct duct_buf text = {0};
	bool found;
	int rc = aws_read_file(path, "shared files", &text, &found, err);
	if (rc == 0 && found)
		aws_profile_take(to, text.data, text.len, strcmp(file, "config") == 0, name);
	if (text.data)
		explicit_bzero(text.data, text.len);
	return rc;
}

static int read_profile(struct aws_profile *to, const char *name, struct duct_error *err)
{
	int rc = take_file(to, "AWS_SHARED_CREDENTIALS_FILE", "credentials", name, err);
	return rc < 0 ? rc : take_file(to, "AWS_CONFIG_FILE", "config", name, err);
}

static int keys_of(struct aws_chain *chain, const char *name, int depth, struct aws_keys *ret, struct duct_error *err);

/* The keys that a profile's role is assumed with. */
static int source_keys(struct aws_chain *chain, const struct aws_profile *profile, const char *name, int depth,
		       struct aws_keys *ret, struct duct_error *err)
{
	const char *source = profile->credential_source ? profile->credential_source : "";
	int rc = 0;
	if (profile->source_profile && strcmp(profile->source_profile, name) == 0 && profile->access_key)
		rc = 0; /* its own keys, below */
	else if (profile->source_profile)
		return keys_of(chain, profile->source_profile, depth + 1, ret, err);
	else if (strcmp(source, "EcsContainer") == 0)
		rc = aws_of_container(chain, ret, err);
	else if (strcmp(source, "Ec2InstanceMetadata") == 0)
		rc = aws_of_instance(chain, ret, err);
	else if (strcmp(source, "Environment") == 0)
		rc = aws_of_environment(ret, err);
	else if (!profile->access_key)
		return duct_fail(err, DUCT_CONFIG,
				 "profile \"%s\" has a role_arn, and neither source_profile nor credential_source", name);
	if (rc < 0 || ret->access_key)
		return rc;
	if (*source)
		return duct_fail(err, DUCT_CONFIG, "profile \"%s\": there are no keys of its credential_source %s", name, source);
	return aws_keys_of_texts(ret, profile->access_key, profile->secret_key, profile->session_token, "the shared files");
}

static int keys_of_role(struct aws_chain *chain, const struct aws_profile *profile, const char *name, int depth,
			struct aws_keys *ret, struct duct_error *err)
{
	const struct aws_role role = {profile->role_arn, profile->external_id, profile->role_session_name};
	AUTO_KEYS struct aws_keys with = {0};
	if (profile->web_identity_token_file)
		return aws_assume_by_token(chain, &role, profile->web_identity_token_file, ret, err);
	int rc = source_keys(chain, profile, name, depth, &with, err);
	return rc < 0 ? rc : aws_assume_role(chain, &role, &with, ret, err);
}

/* A profile that must be there. */
static int keys_of(struct aws_chain *chain, const char *name, int depth, struct aws_keys *ret, struct duct_error *err)
{
	struct aws_profile profile = {0};
	int rc = depth > MOST_SOURCES
		? duct_fail(err, DUCT_CONFIG, "more than %d profiles are each other's source_profile", MOST_SOURCES)
		: read_profile(&profile, name, err);
	if (rc < 0)
		goto out;
	if (!profile.found)
		rc = duct_fail(err, DUCT_CONFIG, "there is no profile \"%s\"", name);
	else if (profile.role_arn)
		rc = keys_of_role(chain, &profile, name, depth, ret, err);
	else if (profile.access_key && profile.secret_key)
		rc = aws_keys_of_texts(ret, profile.access_key, profile.secret_key, profile.session_token, "the shared files");
	else if (profile.credential_process || profile.sso)
		rc = duct_fail(err, DUCT_CONFIG, "profile \"%s\" has %s, which is not followed: give keys by the environment", name,
			       profile.credential_process ? "a credential_process" : "an SSO session");
	else
		rc = duct_fail(err, DUCT_CONFIG, "profile \"%s\" has no %s", name,
			       profile.access_key ? "aws_secret_access_key" : "aws_access_key_id");
out:
	aws_profile_done(&profile);
	return rc;
}

int aws_of_files(struct aws_chain *chain, struct aws_keys *ret, struct duct_error *err)
{
	const char *name = aws_env("AWS_PROFILE");
	struct aws_profile profile = {0};
	int rc = read_profile(&profile, name ? name : "default", err);
	/* The default one may be there for other settings than keys. */
	bool serves = name || profile.role_arn || profile.access_key || profile.credential_process || profile.sso;
	aws_profile_done(&profile);
	if (rc == 0 && serves)
		rc = keys_of(chain, name ? name : "default", 1, ret, err);
	if (rc < 0)
		return duct_wrap(err, "shared files of AWS");
	return serves;
}
