#ifndef API_TLS_FILES_H
#define API_TLS_FILES_H

#include <stdbool.h>

#include "base/error.h"
#include "base/log.h"

/*
 * The listeners' certificate, its key and the authorities of clients: looked at before the first handshake, and read again when their files
 * change. One thread at a time.
 */
struct tls_files;

struct tls_paths {
	const char *cert, *key; /* NULL: no TLS */
	const char *client_ca;	/* NULL: clients show no certificate */
};
/* *ret is NULL without TLS. CONFIG: one is missing, cannot be read, is no PEM, has expired, or key and certificate do not belong together. */
int tls_files_open(struct tls_files **ret, const struct tls_paths *paths, const struct duct_log *log,
		   struct duct_error *err) DUCT_CHECKED;
void tls_files_free(struct tls_files *tls); /* accepts NULL */

/* Reads what has changed. False: nothing has, or it cannot be used; that is logged, and the texts are not to be used then. */
bool tls_files_refresh(struct tls_files *tls);

/* PEM, until the next call. client_ca NULL: none. */
struct tls_texts {
	const char *cert, *key, *client_ca;
};
struct tls_texts tls_files_texts(const struct tls_files *tls);
/* Clears the key in memory, once a library has it. */
void tls_files_forget_key(struct tls_files *tls);

#endif
