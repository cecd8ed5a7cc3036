#ifndef API_AUTH_H
#define API_AUTH_H

#include "api/call.h"
#include "base/error.h"
#include "base/log.h"

/*
 * Who calls: bearer tokens and client certificates, for every listener alike. Threads: any.
 *
 * Where there are neither tokens nor certificates, every caller is "local" with role admin (such a listener is bound to this machine
 * only, listen.h). Otherwise a bearer token decides, without one the certificate, and without both the call is refused.
 */
struct api_auth;

struct api_auth_config {
	const char *tokens_file;  /* lines NAME ROLE TOKEN or NAME ROLE sha256:HEX; NULL: none */
	const char *token;	  /* one more, named "env"; NULL: none */
	enum api_role token_role; /* of it */
	bool certificates;	  /* clients must show one (mTLS) */
	const char *mtls_roles;	  /* "CN=ROLE,CN=ROLE"; NULL: every certificate is a viewer */
};

/* CONFIG when a file cannot be read, may be read by others, or has a line that is no token. Messages never hold a token. */
int api_auth_open(struct api_auth **ret, const struct api_auth_config *config, const struct duct_log *log,
		  struct duct_error *err) DUCT_CHECKED;
void api_auth_free(struct api_auth *auth); /* accepts NULL */

bool api_auth_has_tokens(const struct api_auth *auth);

/*
 * header: value of "authorization" (n bytes), NULL: none. cn: name in the client's certificate, NULL: none. 0 and *ret, or
 * API_UNAUTHENTICATED with *ret_why (static text for the caller). The tokens file is looked at again when it has changed.
 */
enum api_code api_auth_identify(struct api_auth *auth, const char *header, size_t n, const char *cn, struct api_identity *ret,
				const char **ret_why);

/* Logs a refused call, without what it showed: a few lines at once, then one a second with the number of those left out. */
void api_auth_log_refusal(struct api_auth *auth, const char *via, const char *peer, const char *method, enum api_code code);

/* ---- parts of it, for tests */

struct api_token {
	char name[48];
	enum api_role role;
	uint8_t digest[32]; /* SHA-256 of the token */
};
/* The tokens of a file's text; CONFIG names the line ("tokens:3: ..."). *ret is freed with free(). */
int api_tokens_parse(struct api_token **ret, size_t *ret_n, const char *text, size_t n, const char *where,
		     struct duct_error *err) DUCT_CHECKED;
/* The token behind "Bearer ", not copied; NULL: the header is none of that form. */
const char *api_bearer_token(const char *header, size_t n, size_t *ret_n);

#endif
