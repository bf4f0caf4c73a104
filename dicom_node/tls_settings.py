"""Settings of DICOM TLS: certificates, keys, whom to trust, and the profile of PS3.15 annex B."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from pydantic import Field, model_validator

from inference.settings import Frozen


class TlsProfile(StrEnum):
    """A TLS secure transport connection profile; both take TLS 1.2 and 1.3 and nothing older."""

    BCP195 = "bcp195"
    BCP195_EXTENDED = "bcp195_extended"


class ClientCertificates(StrEnum):
    """Whether who connects to the listener must show a certificate."""

    REQUIRED = "required"
    NOT_ASKED = "not_asked"


class _KeyPassword(Frozen):
    """Where the password of an encrypted key comes from; it is never a setting itself."""

    key_password_file: Path | None = None
    key_password_environment: str | None = Field(None, pattern="^[A-Za-z_][A-Za-z0-9_]*$")

    @model_validator(mode="after")
    def _one_password(self) -> _KeyPassword:
        if self.key_password_file is not None and self.key_password_environment is not None:
            raise ValueError("give key_password_file or key_password_environment, not both")
        return self


class ListenerTls(_KeyPassword):
    """TLS of the listener.

    Attributes
    ----------
    port : int or None
        A second port with TLS beside ``listener.port`` without it; None gives ``listener.port``
        TLS, so that nothing is accepted without it. 0 takes a free port.
    ca_file : Path or None
        PEM certificates of the authorities that sign the certificates of those who connect.
    """

    certificate_file: Path
    key_file: Path
    ca_file: Path | None = None
    client_certificates: ClientCertificates = ClientCertificates.REQUIRED
    profile: TlsProfile = TlsProfile.BCP195
    port: int | None = Field(None, ge=0, le=65535)

    @model_validator(mode="after")
    def _someone_to_trust(self) -> ListenerTls:
        if self.client_certificates is ClientCertificates.REQUIRED and self.ca_file is None:
            raise ValueError(
                "ca_file is missing: it says whose certificates are accepted; "
                "or set client_certificates: not_asked"
            )
        return self


class PeerTls(_KeyPassword):
    """TLS of associations that the node opens to a peer.

    Attributes
    ----------
    ca_file : Path
        PEM certificates of the authorities that sign the peer's certificate.
    certificate_file, key_file : Path or None
        What the node shows to a peer that asks for a certificate.
    certificate_name : str or None
        Name or address that the peer's certificate must carry; None means the peer's ``host``.
    """

    ca_file: Path
    certificate_file: Path | None = None
    key_file: Path | None = None
    certificate_name: str | None = None
    profile: TlsProfile = TlsProfile.BCP195

    @model_validator(mode="after")
    def _whole_pair(self) -> PeerTls:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file belong together")
        return self
