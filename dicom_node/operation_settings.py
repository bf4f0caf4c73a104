"""Settings of operation: the operator's page, logs, alerts, the audit trail and retention.

Secrets are never settings themselves: a setting names the file or the environment variable that holds one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path

from pydantic import Field, field_validator, model_validator

from inference.settings import Frozen

Network = IPv4Network | IPv6Network


class SecretSource(Frozen):
    """Where a secret is read from: a file (its first line) or an environment variable."""

    file: Path | None = None
    environment: str | None = Field(None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")

    @model_validator(mode="after")
    def _one(self) -> SecretSource:
        if (self.file is None) == (self.environment is None):
            raise ValueError("name either file or environment")
        return self

    def read(self, environment: Mapping[str, str] | None = None) -> str:
        """Return the secret.

        Raises
        ------
        ValueError
            The file or the variable is missing or empty; the message names it, never a content.
        """
        if self.file is not None:
            try:
                value = self.file.read_text(encoding="utf-8").partition("\n")[0].strip()
            except OSError as error:
                raise ValueError(f"the secret in {self.file} cannot be read: {error.strerror}") from error
            where = str(self.file)
        else:
            value = (os.environ if environment is None else environment).get(str(self.environment), "")
            where = f"the environment variable {self.environment}"
        if not value:
            raise ValueError(f"{where} holds no secret")
        return value


class WebSettings(Frozen):
    """The operator's page, health and metrics."""

    enabled: bool = True
    host: str = "127.0.0.1"
    port: int = Field(8117, ge=0, le=65535, description="0: any free one, see data_dir/page.port")
    users_file: Path | None = Field(None, description="null: data_dir/users.json")
    session_secret: SecretSource | None = Field(
        None, description="signs sessions; null: data_dir/web.secret, made once"
    )
    tls_certificate: Path | None = Field(None, description="PEM, with the chain")
    tls_key: Path | None = Field(None, description="PEM")
    allow_unprotected_address: bool = Field(
        False, description="reachable from other machines without users or without TLS"
    )
    session_hours: float = Field(8.0, gt=0, le=72)
    login_attempts: int = Field(5, ge=1, description="wrong ones, of one user or one address")
    login_pause_s: float = Field(60.0, gt=0, description="after so many wrong ones")
    status_addresses: tuple[str, ...] = Field(
        ("127.0.0.0/8", "::1/128"), description="who may read /healthz, /readyz and /metrics"
    )
    refresh_s: int = Field(10, ge=2, le=3600)
    studies_per_page: int = Field(50, ge=5, le=500)

    @field_validator("status_addresses")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            ip_network(text)
        return value

    @model_validator(mode="after")
    def _both(self) -> WebSettings:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key are given together")
        return self

    @property
    def uses_tls(self) -> bool:
        """Whether the page is served by TLS."""
        return self.tls_certificate is not None

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches the page."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def status_networks(self) -> tuple[Network, ...]:
        """`status_addresses`, parsed."""
        return tuple(ip_network(text) for text in self.status_addresses)

    def users(self, data_dir: Path) -> Path:
        """Return the file of users."""
        return self.users_file or data_dir / "users.json"


class LogFormat(StrEnum):
    """How a line of the log looks."""

    TEXT = "text"
    JSON = "json"


class LogSettings(Frozen):
    """The log of every process of the node, on standard error."""

    format: LogFormat = LogFormat.TEXT
    level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")


class MailSettings(Frozen):
    """Alerts by e-mail."""

    host: str
    port: int = Field(587, ge=1, le=65535)
    sender: str = Field(pattern=r"^[^@\s]+@[^@\s]+$")
    recipients: tuple[str, ...] = Field(min_length=1)
    starttls: bool = True
    ca_file: Path | None = Field(None, description="who signed the server's certificate; null: the system's")
    user: str | None = None
    password: SecretSource | None = None
    timeout_s: float = Field(20.0, gt=0)

    @model_validator(mode="after")
    def _sealed(self) -> MailSettings:
        if (self.user is None) != (self.password is None):
            raise ValueError("user and password are given together")
        if self.password is not None and not self.starttls:
            raise ValueError("a password goes out with starttls only")
        return self


class WebhookSettings(Frozen):
    """Alerts as JSON to an address."""

    url: str = Field(pattern=r"^https?://[^\s@]+$", description="without a password in it")
    token: SecretSource | None = Field(None, description="sent as Authorization: Bearer")
    timeout_s: float = Field(10.0, gt=0)


class AlertSettings(Frozen):
    """What is told to people without their asking, and how."""

    mail: MailSettings | None = None
    webhook: WebhookSettings | None = None
    check_every_s: float = Field(15.0, gt=0)
    maximum_per_hour: int = Field(20, ge=1, description="messages; what is beyond it is put together")
    free_bytes: int | None = Field(None, ge=0, description="null: twice listener.minimum_free_bytes")
    role_lost_s: float = Field(60.0, gt=0, description="a listener or worker without a sign of life")
    peer_away_s: float = Field(600.0, gt=0)
    outbox_age_s: float = Field(3600.0, gt=0, description="of the oldest object that is not delivered")
    job_age_s: float = Field(3600.0, gt=0, description="of the oldest job that waits")
    failures_in_a_row: int = Field(3, ge=1)


class PatientIdentity(StrEnum):
    """What the audit trail writes where PS3.15 asks for a patient ID."""

    KEYED_HASH = "keyed_hash"
    PATIENT_ID = "patient_id"


class SyslogTransport(StrEnum):
    """How messages go to the syslog server."""

    UDP = "udp"
    TCP = "tcp"
    TLS = "tls"


class SyslogSettings(Frozen):
    """An audit record repository (RFC 5424; by TLS as RFC 5425 frames it)."""

    host: str
    port: int = Field(ge=1, le=65535)
    transport: SyslogTransport = SyslogTransport.TLS
    ca_file: Path | None = None
    certificate: Path | None = Field(None, description="of the node, where the server asks for one")
    key: Path | None = None
    timeout_s: float = Field(10.0, gt=0)


class AuditSettings(Frozen):
    """The audit trail of PS3.15 A.5."""

    source_id: str = Field("hepatocast", min_length=1, max_length=64, description="AuditSourceID")
    enterprise_site_id: str | None = None
    patient_identity: PatientIdentity = PatientIdentity.KEYED_HASH
    patient_key: SecretSource | None = Field(None, description="null: data_dir/audit/patient.key, made once")
    folder: Path | None = Field(None, description="of its files; null: data_dir/audit")
    maximum_file_bytes: int = Field(64 * 1024**2, ge=4096)
    syslog: SyslogSettings | None = None

    def files(self, data_dir: Path) -> Path:
        """Return the folder of the audit trail's files."""
        return self.folder or data_dir / "audit"


class Removal(StrEnum):
    """How an expired file is removed."""

    OVERWRITE = "overwrite"
    UNLINK = "unlink"


class RetentionSettings(Frozen):
    """How long files are kept, in days; null keeps them until a person removes them."""

    delivered_inputs_days: float | None = Field(30.0, ge=0)
    ignored_inputs_days: float | None = Field(7.0, ge=0)
    refused_inputs_days: float | None = Field(30.0, ge=0)
    cancelled_inputs_days: float | None = Field(30.0, ge=0)
    undelivered_results_days: float | None = Field(
        30.0, ge=0, description="of superseded, refused and cancelled revisions; see outbox for the others"
    )
    removal: Removal = Removal.OVERWRITE
