"""Certificates for mutual TLS, made at test time with ``openssl``: an authority, and what it or nobody has signed."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

_DAYS = "2"


@dataclass(frozen=True)
class Identity:
    """A certificate with its key, both in PEM.

    Attributes
    ----------
    certificate, key
        Files.
    """

    certificate: Path
    key: Path

    def bundle(self) -> Path:
        """One file with the key and the certificate, as Apache Kafka wants its key store."""
        path = self.key.with_suffix(".bundle.pem")
        path.write_text(self.key.read_text() + self.certificate.read_text())
        return path


class Authority:
    """A certificate authority of one's own.

    Parameters
    ----------
    directory
        Where everything is written.
    name
        Common name.
    """

    def __init__(self, directory: Path, name: str = "Test authority") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self.certificate = directory / "authority.pem"
        self._key = directory / "authority.key"
        _openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", _DAYS,
            "-subj", f"/CN={name}", "-keyout", str(self._key), "-out", str(self.certificate),
        )  # fmt: skip

    def issue(self, name: str, address: str | None = None) -> Identity:
        """Sign a certificate for a name, and for an IP address when it is a server's."""
        identity = Identity(self._directory / f"{name}.pem", self._directory / f"{name}.key")
        request = self._directory / f"{name}.csr"
        extensions = self._directory / f"{name}.cnf"
        extensions.write_text(f"subjectAltName=IP:{address}\n" if address else "basicConstraints=CA:FALSE\n")
        _openssl(
            "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-subj", f"/CN={name}", "-keyout", str(identity.key), "-out", str(request),
        )  # fmt: skip
        _openssl(
            "x509", "-req", "-in", str(request), "-CA", str(self.certificate), "-CAkey", str(self._key),
            "-CAcreateserial", "-days", _DAYS, "-extfile", str(extensions), "-out", str(identity.certificate),
        )  # fmt: skip
        return identity


def _openssl(*arguments: str) -> None:
    answer = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False, timeout=60)
    if answer.returncode != 0:
        raise RuntimeError(f"openssl {arguments[0]} failed: {answer.stderr[-1000:]}")
