"""DICOM TLS: contexts of the ssl module from settings (PS3.15 annex B, RFC 9325)."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

from dicom_node.errors import ConfigurationError
from dicom_node.tls_settings import ClientCertificates, ListenerTls, PeerTls, TlsProfile

SUITES: dict[TlsProfile, tuple[str, ...]] = {
    TlsProfile.BCP195: (
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
    ),
    TlsProfile.BCP195_EXTENDED: (
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
    ),
}
"""Cipher suites of TLS 1.2 (RFC 9325 section 4.2, PS3.15 sections B.12 and B.13), OpenSSL's names.

Those of TLS 1.3 are all authenticated encryption with forward secrecy, and are OpenSSL's own.
"""
_SECURITY_LEVEL = "@SECLEVEL=2"
"""OpenSSL: RSA keys of 2048 bits or more, elliptic curves of 224 or more, no SHA-1 signatures."""

REASONS: dict[str, str] = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it shows no certificate",
    "UNSUPPORTED_PROTOCOL": "it offers no version of TLS from 1.2 on",
    "NO_SHARED_CIPHER": "it offers no cipher suite of the profile",
    "HTTP_REQUEST": "it does not speak TLS",
    "WRONG_VERSION_NUMBER": "it does not speak TLS",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not trust our certificate; give it our certificate authority",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "it says that our certificate has expired",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it asks for a certificate; set certificate_file and key_file",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "it wants another profile, or a certificate of ours",
    "TLSV1_ALERT_PROTOCOL_VERSION": "it offers no version of TLS from 1.2 on",
}
"""OpenSSL's reason of a failed handshake in words."""


def server_context(settings: ListenerTls) -> ssl.SSLContext:
    """Return the context of the listener.

    Raises
    ------
    ConfigurationError
        A file is missing or damaged, or key and certificate do not belong together.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER, settings.profile)
    _load_identity(context, settings, settings.certificate_file, settings.key_file)
    if settings.client_certificates is ClientCertificates.REQUIRED and settings.ca_file is not None:
        _load_trust(context, settings.ca_file)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(settings: PeerTls) -> ssl.SSLContext:
    """Return the context of associations to a peer; raises as `server_context` does."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT, settings.profile)
    _load_trust(context, settings.ca_file)
    if settings.certificate_file is not None and settings.key_file is not None:
        _load_identity(context, settings, settings.certificate_file, settings.key_file)
    return context


def secured(connection: socket.socket, settings: PeerTls, host: str) -> ssl.SSLSocket:
    """Do the handshake of an association that we open, within the timeout of the connection.

    Raises
    ------
    OSError
        It failed; `why` says the reason in words.
    """
    name = settings.certificate_name or host
    return client_context(settings).wrap_socket(connection, server_hostname=name)


def why(error: OSError) -> str:
    """Return the reason of a failed handshake in words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused ({error.verify_message})"
    if isinstance(error, ssl.SSLError) and error.reason:
        return REASONS.get(error.reason, error.reason.replace("_", " ").lower())
    return error.strerror or str(error) or "the connection ended"


def _context(protocol: int, profile: TlsProfile) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(":".join((*SUITES[profile], _SECURITY_LEVEL)))
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_RENEGOTIATION
    return context


def _load_trust(context: ssl.SSLContext, ca_file: Path) -> None:
    try:
        context.load_verify_locations(ca_file)
    except ssl.SSLError as error:
        raise ConfigurationError(f"{ca_file} has no certificate in PEM; correct tls.ca_file") from error
    except OSError as error:
        raise ConfigurationError(f"cannot read {ca_file} ({error.strerror}); correct tls.ca_file") from error


def _load_identity(
    context: ssl.SSLContext, settings: ListenerTls | PeerTls, certificate: Path, key: Path
) -> None:
    try:
        context.load_cert_chain(certificate, key, _password(settings))
    except ssl.SSLError as error:
        text = (error.reason or "unreadable").replace("_", " ").lower()
        raise ConfigurationError(
            f"certificate {certificate} and key {key} cannot be used ({text}); they must be PEM, belong "
            "together, and an encrypted key needs the right password"
        ) from error
    except OSError as error:
        raise ConfigurationError(
            f"cannot read certificate {certificate} or key {key} ({error.strerror})"
        ) from error


def _password(settings: ListenerTls | PeerTls) -> Callable[[], str]:
    """Return what OpenSSL calls for an encrypted key; without it OpenSSL would ask on the terminal."""

    def password() -> str:
        file, variable = settings.key_password_file, settings.key_password_environment
        if file is not None:
            try:
                return file.read_text(encoding="utf-8").rstrip("\r\n")
            except OSError as error:
                raise ConfigurationError(
                    f"cannot read {file} ({error.strerror}); correct tls.key_password_file"
                ) from error
        if variable is not None and variable in os.environ:
            return os.environ[variable]
        if variable is not None:
            raise ConfigurationError(f"the environment has no {variable} with the password of the TLS key")
        raise ConfigurationError(
            "the TLS key is encrypted; set tls.key_password_file or tls.key_password_environment"
        )

    return password
