"""Certificate authorities and certificates for tests, made by OpenSSL's command line."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Identity:
    """A certificate and its key."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class Authority:
    """A certificate authority in a folder."""

    openssl: str
    folder: Path
    name: str = "Test CA"

    @property
    def certificate(self) -> Path:
        return self.folder / "ca.pem"

    def _run(self, *arguments: str) -> None:
        done = subprocess.run([self.openssl, *arguments], capture_output=True, check=False, text=True)
        assert done.returncode == 0, done.stderr

    def create(self) -> Authority:
        """Make the authority's own key and certificate."""
        self.folder.mkdir(parents=True, exist_ok=True)
        key = str(self.folder / "ca.key")
        self._run("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
        subject = ["-subj", f"/CN={self.name}", "-days", "100", "-out", str(self.certificate)]
        self._run("req", "-x509", "-new", "-key", key, *subject, "-addext", "keyUsage=critical,keyCertSign")
        return self

    def issue(self, name: str, days: int = 60, kind: str = "EC", alternative: str = "") -> Identity:
        """Sign a certificate of 127.0.0.1; negative `days` make one that has expired.

        Parameters
        ----------
        kind : str
            EC or RSA.
        alternative : str
            Subject alternative names, as OpenSSL writes them.
        """
        safe = f"{name}-{days}-{kind}".replace(" ", "")
        key, request = self.folder / f"{safe}.key", self.folder / f"{safe}.csr"
        certificate, extensions = self.folder / f"{safe}.pem", self.folder / f"{safe}.ext"
        how = {
            "EC": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
            "RSA": ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
        }[kind]
        self._run("genpkey", *how, "-out", str(key))
        self._run("req", "-new", "-key", str(key), "-subj", f"/CN={name}", "-out", str(request))
        extensions.write_text(
            f"subjectAltName={alternative or 'IP:127.0.0.1,DNS:localhost'}\nbasicConstraints=CA:FALSE\n"
        )
        signer = ["-CA", str(self.certificate), "-CAkey", str(self.folder / "ca.key"), "-CAcreateserial"]
        self._run(
            "x509", "-req", "-in", str(request), *signer, "-days", str(days),
            "-extfile", str(extensions), "-out", str(certificate),
        )  # fmt: skip
        return Identity(certificate, key)

    def encrypt(self, identity: Identity, password: str) -> Path:
        """Return a copy of the key that needs a password."""
        target = identity.key.with_suffix(".locked")
        self._run(
            "pkcs8", "-topk8", "-in", str(identity.key), "-out", str(target), "-passout", f"pass:{password}"
        )
        return target
