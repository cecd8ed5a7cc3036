/* The listener's certificate as GnuTLS takes it: chosen at each handshake, so that new files are used without a restart. */
#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <string.h>

#include "api/http_internal.h"
#include "api/tls_files.h"

enum { MOST_IN_CHAIN = 8 };

/* One reading of the files. A handshake may still use an older one, so they stay until the end: there are as many as renewals. */
struct generation {
	struct generation *older;
	gnutls_pcert_st chain[MOST_IN_CHAIN];
	unsigned n;
	gnutls_privkey_t key;
};

struct http_tls {
	struct tls_files *files;
	const struct duct_log *log;
	pthread_mutex_t mutex; /* each address has a thread */
	struct generation *newest;
};

static int add_generation(struct http_tls *tls)
{
	struct tls_texts texts = tls_files_texts(tls->files);
	const gnutls_datum_t cert = {(unsigned char *)(uintptr_t)texts.cert, (unsigned)strlen(texts.cert)};
	const gnutls_datum_t key = {(unsigned char *)(uintptr_t)texts.key, (unsigned)strlen(texts.key)};
	struct generation *made = duct_xcalloc(1, sizeof *made);
	made->n = MOST_IN_CHAIN;
	int rc = gnutls_pcert_list_import_x509_raw(made->chain, &made->n, &cert, GNUTLS_X509_FMT_PEM, 0);
	if (rc == 0 && (rc = gnutls_privkey_init(&made->key)) == 0)
		rc = gnutls_privkey_import_x509_raw(made->key, &key, GNUTLS_X509_FMT_PEM, NULL, 0);
	tls_files_forget_key(tls->files);
	if (rc) {
		free(made);
		return rc;
	}
	made->older = tls->newest;
	tls->newest = made;
	return 0;
}

static int choose(gnutls_session_t session, const gnutls_datum_t *authorities, int nauthorities,
		  const gnutls_pk_algorithm_t *algorithms, int nalgorithms, gnutls_pcert_st **ret_chain, unsigned *ret_n,
		  gnutls_privkey_t *ret_key)
{
	(void)authorities, (void)nauthorities, (void)algorithms, (void)nalgorithms;
	struct MHD_Connection *connection = gnutls_session_get_ptr(session);
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	struct http_tls *tls = ((struct http_conn *)info->socket_context)->http->tls;
	pthread_mutex_lock(&tls->mutex);
	int rc = tls_files_refresh(tls->files) ? add_generation(tls) : 0;
	if (rc)
		log_warn(tls->log, "certificates stay as they were", LOG_STR("reason", gnutls_strerror(rc)));
	*ret_chain = tls->newest->chain;
	*ret_n = tls->newest->n;
	*ret_key = tls->newest->key;
	pthread_mutex_unlock(&tls->mutex);
	return 0;
}

int http_tls_open(struct http_tls **ret, const struct api_http_config *config, struct duct_error *err)
{
	const struct tls_paths paths = {config->cert_file, config->key_file, config->client_ca_file};
	struct tls_files *files;
	if (tls_files_open(&files, &paths, config->log, err))
		return -err->class;
	*ret = NULL;
	if (!files)
		return 0;
	struct http_tls *tls = duct_xcalloc(1, sizeof *tls);
	tls->files = files;
	tls->log = config->log;
	pthread_mutex_init(&tls->mutex, NULL);
	int rc = MHD_is_feature_supported(MHD_FEATURE_SSL) == MHD_YES ? add_generation(tls) : GNUTLS_E_UNIMPLEMENTED_FEATURE;
	if (rc) {
		http_tls_free(tls);
		return duct_fail(err, DUCT_CONFIG, "DUCTSTREAM_TLS_CERT_FILE \"%s\": %s", config->cert_file, gnutls_strerror(rc));
	}
	*ret = tls;
	return 0;
}

void http_tls_options(const struct http_tls *tls, struct MHD_OptionItem to[4])
{
	const char *client_ca = tls_files_texts(tls->files).client_ca;
	int n = 0;
	to[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_CERT_CALLBACK, 0, (void *)(uintptr_t)choose};
	to[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_PRIORITIES, 0,
					  (void *)(uintptr_t) "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"};
	if (client_ca)
		to[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_TRUST, 0, (void *)(uintptr_t)client_ca};
	to[n] = (struct MHD_OptionItem){MHD_OPTION_END, 0, NULL};
}

void http_tls_free(struct http_tls *tls)
{
	if (!tls)
		return;
	for (struct generation *at = tls->newest, *older; at; at = older) {
		older = at->older;
		for (unsigned i = 0; i < at->n; i++)
			gnutls_pcert_deinit(&at->chain[i]);
		gnutls_privkey_deinit(at->key);
		free(at);
	}
	pthread_mutex_destroy(&tls->mutex);
	tls_files_free(tls->files);
	free(tls);
}
