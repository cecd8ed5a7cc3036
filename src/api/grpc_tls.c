/* The listener's certificates, as the library takes them. */
#include "api/grpc_internal.h"
#include "api/tls_files.h"
#include "base/mem.h"

struct grpc_tls {
	struct tls_files *files;
	bool handed_out; /* the library has the first ones */
};

static grpc_ssl_server_certificate_config *library_form(struct grpc_tls *tls)
{
	struct tls_texts texts = tls_files_texts(tls->files);
	grpc_ssl_pem_key_cert_pair pair = {texts.key, texts.cert};
	/* The library wants authorities also where clients show no certificate; they are used for nothing then. */
	grpc_ssl_server_certificate_config *made =
		grpc_ssl_server_certificate_config_create(texts.client_ca ? texts.client_ca : texts.cert, &pair, 1);
	tls_files_forget_key(tls->files);
	return made;
}

/* Called by the library at each handshake, one at a time. New files that cannot be used leave the old certificates in use. */
static grpc_ssl_certificate_config_reload_status fetch(void *arg, grpc_ssl_server_certificate_config **ret)
{
	struct grpc_tls *tls = arg;
	if (tls->handed_out && !tls_files_refresh(tls->files))
		return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
	tls->handed_out = true;
	*ret = library_form(tls);
	return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
}

int grpc_tls_open(struct grpc_tls **ret, const struct api_grpc_config *config, struct duct_error *err)
{
	const struct tls_paths paths = {config->cert_file, config->key_file, config->client_ca_file};
	struct tls_files *files;
	if (tls_files_open(&files, &paths, config->log, err))
		return -err->class;
	*ret = NULL;
	if (!files)
		return 0;
	struct grpc_tls *tls = duct_xcalloc(1, sizeof *tls);
	tls->files = files;
	*ret = tls;
	return 0;
}

grpc_server_credentials *grpc_tls_credentials(struct grpc_tls *tls)
{
	return grpc_ssl_server_credentials_create_with_options(grpc_ssl_server_credentials_create_options_using_config_fetcher(
		tls_files_texts(tls->files).client_ca ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
						      : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE,
		fetch, tls));
}

void grpc_tls_free(struct grpc_tls *tls)
{
	if (!tls)
		return;
	tls_files_free(tls->files);
	free(tls);
}
