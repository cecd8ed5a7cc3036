/* The listener's certificates: looked at before the first handshake, and read again when their files change. */
#include "api/grpc_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "base/buf.h"
#include "base/mem.h"

enum { CERT, KEY, CA, FILES };
enum { MOST_PEM = 1 << 20 };

struct pem_file {
	const char *setting, *path; /* path NULL: not used */
	struct stat seen;
	struct duct_buf text;
};

struct grpc_tls {
	const struct duct_log *log;
	struct pem_file files[FILES];
	bool handed_out; /* the library has the first ones */
};

static void forget(struct pem_file *file)
{
	if (file->text.data)
		OPENSSL_cleanse(file->text.data, file->text.cap);
	duct_buf_done(&file->text);
}

static int read_file(struct pem_file *file, struct duct_error *err)
{
	int fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), rc = 0;
	forget(file);
	if (fd < 0)
		return duct_fail(err, DUCT_CONFIG, "%s \"%s\": %s", file->setting, file->path, strerror(errno));
	if (fstat(fd, &file->seen) < 0 || !S_ISREG(file->seen.st_mode) || file->seen.st_size > MOST_PEM)
		rc = duct_fail(err, DUCT_CONFIG, "%s \"%s\" is not a PEM file", file->setting, file->path);
	while (rc == 0) {
		ssize_t n = read(fd, duct_buf_room(&file->text, 4096), 4096);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			rc = duct_fail(err, DUCT_CONFIG, "%s \"%s\": %s", file->setting, file->path, strerror(errno));
		if (n <= 0)
			break;
		file->text.len += (size_t)n;
	}
	duct_buf_putc(&file->text, 0);
	close(fd);
	return rc;
}

static bool changed(const struct pem_file *file)
{
	struct stat now;
	if (!file->path || stat(file->path, &now) < 0)
		return false;
	return now.st_ino != file->seen.st_ino || now.st_dev != file->seen.st_dev || now.st_size != file->seen.st_size ||
		now.st_mtim.tv_sec != file->seen.st_mtim.tv_sec || now.st_mtim.tv_nsec != file->seen.st_mtim.tv_nsec;
}

static X509 *first_certificate(const struct pem_file *file)
{
	BIO *bio = BIO_new_mem_buf(file->text.data, -1);
	X509 *cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
	BIO_free(bio);
	return cert;
}

/* A key with a passphrase is refused instead of asking for it on a terminal. */
static int no_passphrase(char *to, int size, int writing, void *arg)
{
	(void)to, (void)size, (void)writing, (void)arg;
	return -1;
}

static EVP_PKEY *private_key(const struct pem_file *file)
{
	BIO *bio = BIO_new_mem_buf(file->text.data, -1);
	EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL);
	BIO_free(bio);
	return key;
}

static int check_pair(const struct grpc_tls *tls, struct duct_error *err)
{
	const struct pem_file *cert_file = &tls->files[CERT], *key_file = &tls->files[KEY];
	X509 *cert = first_certificate(cert_file);
	EVP_PKEY *key = private_key(key_file);
	int rc = 0;
	if (!cert)
		rc = duct_fail(err, DUCT_CONFIG, "%s \"%s\" has no certificate in PEM form", cert_file->setting, cert_file->path);
	else if (!key)
		rc = duct_fail(err, DUCT_CONFIG, "%s \"%s\" has no private key in PEM form without a passphrase", key_file->setting,
			       key_file->path);
	else if (X509_check_private_key(cert, key) != 1)
		rc = duct_fail(err, DUCT_CONFIG, "%s \"%s\" is not the key of the certificate in \"%s\"", key_file->setting,
			       key_file->path, cert_file->path);
	else if (X509_cmp_current_time(X509_get0_notAfter(cert)) < 0)
		rc = duct_fail(err, DUCT_CONFIG, "%s \"%s\": the certificate has expired", cert_file->setting, cert_file->path);
	X509_free(cert);
	EVP_PKEY_free(key);
	return rc;
}

static int check_ca(const struct pem_file *file, struct duct_error *err)
{
	X509 *cert = file->path ? first_certificate(file) : NULL;
	if (file->path && !cert)
		return duct_fail(err, DUCT_CONFIG, "%s \"%s\" has no certificate in PEM form", file->setting, file->path);
	X509_free(cert);
	return 0;
}

static int read_all(struct grpc_tls *tls, struct duct_error *err)
{
	int rc = 0;
	for (int i = 0; i < FILES && rc == 0; i++)
		if (tls->files[i].path)
			rc = read_file(&tls->files[i], err);
	rc = rc ? rc : check_pair(tls, err);
	return rc ? rc : check_ca(&tls->files[CA], err);
}

static grpc_ssl_server_certificate_config *library_form(struct grpc_tls *tls)
{
	grpc_ssl_pem_key_cert_pair pair = {tls->files[KEY].text.data, tls->files[CERT].text.data};
	/* The library wants authorities also where clients show no certificate; they are used for nothing then. */
	const char *authorities = tls->files[tls->files[CA].path ? CA : CERT].text.data;
	grpc_ssl_server_certificate_config *made = grpc_ssl_server_certificate_config_create(authorities, &pair, 1);
	forget(&tls->files[KEY]);
	return made;
}

/* Called by the library at each handshake, one at a time. New files that cannot be used leave the old certificates in use. */
static grpc_ssl_certificate_config_reload_status fetch(void *arg, grpc_ssl_server_certificate_config **ret)
{
	struct grpc_tls *tls = arg;
	struct duct_error err;
	if (tls->handed_out && !changed(&tls->files[CERT]) && !changed(&tls->files[KEY]) && !changed(&tls->files[CA]))
		return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
	if (tls->handed_out && read_all(tls, &err) < 0) {
		log_warn(tls->log, "certificates stay as they were", LOG_STR("reason", err.message));
		return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
	}
	if (tls->handed_out)
		log_info(tls->log, "certificates read again", LOG_STR("file", tls->files[CERT].path));
	tls->handed_out = true;
	*ret = library_form(tls);
	return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
}

int grpc_tls_open(struct grpc_tls **ret, const struct api_grpc_config *config, struct duct_error *err)
{
	if (!config->cert_file != !config->key_file)
		return duct_fail(err, DUCT_CONFIG,
				 "DUCTSTREAM_TLS_CERT_FILE and DUCTSTREAM_TLS_KEY_FILE are set together: %s is missing",
				 config->cert_file ? "the key" : "the certificate");
	if (config->client_ca_file && !config->cert_file)
		return duct_fail(err, DUCT_CONFIG,
				 "DUCTSTREAM_TLS_CLIENT_CA_FILE needs DUCTSTREAM_TLS_CERT_FILE and DUCTSTREAM_TLS_KEY_FILE, too");
	*ret = NULL;
	if (!config->cert_file)
		return 0;
	struct grpc_tls *tls = duct_xcalloc(1, sizeof *tls);
	tls->log = config->log;
	tls->files[CERT] = (struct pem_file){.setting = "DUCTSTREAM_TLS_CERT_FILE", .path = config->cert_file};
	tls->files[KEY] = (struct pem_file){.setting = "DUCTSTREAM_TLS_KEY_FILE", .path = config->key_file};
	tls->files[CA] = (struct pem_file){.setting = "DUCTSTREAM_TLS_CLIENT_CA_FILE", .path = config->client_ca_file};
	int rc = read_all(tls, err);
	if (rc) {
		grpc_tls_free(tls);
		return rc;
	}
	if (tls->files[KEY].seen.st_mode & 077)
		log_warn(tls->log, "the private key may be read by others", LOG_STR("file", config->key_file));
	*ret = tls;
	return 0;
}

grpc_server_credentials *grpc_tls_credentials(struct grpc_tls *tls)
{
	return grpc_ssl_server_credentials_create_with_options(grpc_ssl_server_credentials_create_options_using_config_fetcher(
		tls->files[CA].path ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
				    : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE,
		fetch, tls));
}

void grpc_tls_free(struct grpc_tls *tls)
{
	if (!tls)
		return;
	for (int i = 0; i < FILES; i++)
		forget(&tls->files[i]);
	free(tls);
}
