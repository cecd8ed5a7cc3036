#ifndef NET_AWS_INTERNAL_H
#define NET_AWS_INTERNAL_H

#include <stddef.h>

#include "net/aws_credentials.h"
#include "net/http.h"

enum { AWS_ROLE_SECONDS = 3600, AWS_MOST_FILE = 1 << 20 };

/* What the links of the chain work with. */
struct aws_chain {
	const char *region;
	struct http_client *http;  /* for STS */
	struct http_client *local; /* for what is on this machine or not at all: gives up soon */
};

struct aws_role {
	const char *arn, *external_id; /* NULL: none */
	const char *session;	       /* NULL: ductstream */
};

/* aws_sts.c */
int aws_assume_role(struct aws_chain *chain, const struct aws_role *role, const struct aws_keys *with, struct aws_keys *ret,
		    struct duct_error *err) DUCT_CHECKED;
int aws_assume_by_token(struct aws_chain *chain, const struct aws_role *role, const char *token_file, struct aws_keys *ret,
			struct duct_error *err) DUCT_CHECKED;

/* Links of the chain: 1 with *ret, 0: it is not there, -class: it is there, and failed. */
int aws_of_environment(struct aws_keys *ret, struct duct_error *err) DUCT_CHECKED;
/* aws_metadata.c */
int aws_of_container(struct aws_chain *chain, struct aws_keys *ret, struct duct_error *err) DUCT_CHECKED;
int aws_of_instance(struct aws_chain *chain, struct aws_keys *ret, struct duct_error *err) DUCT_CHECKED;

/* aws_profile.c */
int aws_of_files(struct aws_chain *chain, struct aws_keys *ret, struct duct_error *err) DUCT_CHECKED;

/* aws_ini.c */
struct aws_profile {
	bool found;
	char *access_key, *secret_key, *session_token;
	char *role_arn, *external_id, *source_profile, *credential_source, *role_session_name;
	char *web_identity_token_file, *credential_process, *sso;
};
void aws_profile_done(struct aws_profile *profile);
/* Takes what a file says of a profile and is not known yet. is_config: its sections are called "profile NAME", but for "default". */
void aws_profile_take(struct aws_profile *to, const char *text, size_t n, bool is_config, const char *name);

/* Copies. of: where they are from, for messages; NULL: the options. 1, as a link. */
int aws_keys_of_texts(struct aws_keys *ret, const char *access_key, const char *secret_key, const char *session_token,
		      const char *of);

/* Small files; *ret_found false: there is none, or it is empty. CONFIG: it cannot be read, or is too long. */
int aws_read_file(const char *path, const char *what, struct duct_buf *to, bool *ret_found, struct duct_error *err) DUCT_CHECKED;
/* A variable that is set and not empty, else NULL. */
const char *aws_env(const char *name);
void aws_forget(char *secret); /* frees it, wiped */

#endif
