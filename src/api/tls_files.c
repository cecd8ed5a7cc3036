/* PEM files, and what is looked at in them before a library sees them. */
#include "api/tls_files.h"

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

struct tls_files {
	const struct duct_log *log;
	struct pem_file files[FILES];
	bool failed; /* the last time: one of them may only have been away */
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

static int check_pair(const struct tls_files *tls, struct duct_error *err)
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

static int read_all(struct tls_files *tls, struct duct_error *err)
{
	int rc = 0;
	for (int i = 0; i < FILES && rc == 0; i++)
		if (tls->files[i].path)
			rc = read_file(&tls->files[i], err);
	rc = rc ? rc : check_pair(tls, err);
	return rc ? rc : check_ca(&tls->files[CA], err);
}

int tls_files_open(struct tls_files **ret, const struct tls_paths *paths, const struct duct_log *log, struct duct_error *err)
{
	if (!paths->cert != !paths->key)
		return duct_fail(err, DUCT_CONFIG,
				 "DUCTSTREAM_TLS_CERT_FILE and DUCTSTREAM_TLS_KEY_FILE are set together: %s is missing",
				 paths->cert ? "the key" : "the certificate");
	if (paths->client_ca && !paths->cert)
		return duct_fail(err, DUCT_CONFIG,
				 "DUCTSTREAM_TLS_CLIENT_CA_FILE needs DUCTSTREAM_TLS_CERT_FILE and DUCTSTREAM_TLS_KEY_FILE, too");
	*ret = NULL;
	if (!paths->cert)
		return 0;
	struct tls_files *tls = duct_xcalloc(1, sizeof *tls);
	tls->log = log;
	tls->files[CERT] = (struct pem_file){.setting = "DUCTSTREAM_TLS_CERT_FILE", .path = paths->cert};
	tls->files[KEY] = (struct pem_file){.setting = "DUCTSTREAM_TLS_KEY_FILE", .path = paths->key};
	tls->files[CA] = (struct pem_file){.setting = "DUCTSTREAM_TLS_CLIENT_CA_FILE", .path = paths->client_ca};
	int rc = read_all(tls, err);
	if (rc) {
		tls_files_free(tls);
		return rc;
	}
	if (tls->files[KEY].seen.st_mode & 077)
		log_warn(tls->log, "the private key may be read by others", LOG_STR("file", paths->key));
	*ret = tls;
	return 0;
}

bool tls_files_refresh(struct tls_files *tls)
{
	struct duct_error err;
	bool news = changed(&tls->files[CERT]) || changed(&tls->files[KEY]) || changed(&tls->files[CA]);
	if (!news && !tls->failed)
		return false;
	tls->failed = read_all(tls, &err) < 0;
	if (tls->failed) {
		if (news)
			log_warn(tls->log, "certificates stay as they were", LOG_STR("reason", err.message));
		return false;
	}
	log_info(tls->log, "certificates read again", LOG_STR("file", tls->files[CERT].path));
	return true;
}

struct tls_texts tls_files_texts(const struct tls_files *tls)
{
	return (struct tls_texts){
		.cert = tls->files[CERT].text.data,
		.key = tls->files[KEY].text.data,
		.client_ca = tls->files[CA].path ? tls->files[CA].text.data : NULL,
	};
}

void tls_files_forget_key(struct tls_files *tls)
{
	forget(&tls->files[KEY]);
}

void tls_files_free(struct tls_files *tls)
{
	if (!tls)
		return;
	for (int i = 0; i < FILES; i++)
		forget(&tls->files[i]);
	free(tls);
}
