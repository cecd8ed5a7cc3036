"""Certificates for tests, made by openssl: an authority, and what it signs."""

import subprocess


class Authority:
    def __init__(self, folder, name="ca"):
        self.folder = folder
        self.cert, self.key = folder / f"{name}.pem", folder / f"{name}.key"
        self._run("req", "-x509", *NEW_KEY, "-keyout", self.key, "-out", self.cert, "-days", "30", "-subj", f"/CN={name}")

    @staticmethod
    def _run(*words):
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)

    def sign(self, name, days=30, file=None):
        """(certificate, key) for CN=NAME on localhost; days -1: expired since yesterday."""
        cert, key, request = (self.folder / f"{file or name}.{suffix}" for suffix in ("pem", "key", "csr"))
        names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
        self._run("req", "-new", *NEW_KEY, "-keyout", key, "-out", request, "-subj", f"/CN={name}", "-addext", names)
        self._run("x509", "-req", "-in", request, "-CA", self.cert, "-CAkey", self.key, "-CAcreateserial", "-out", cert,
                  "-days", days, "-copy_extensions", "copy")  # fmt: skip
        key.chmod(0o600)
        return cert, key


NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
