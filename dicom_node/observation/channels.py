"""How alerts reach people: e-mail and webhook. Neither carries patient data."""

from __future__ import annotations

import json
import smtplib
import ssl
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Any, Protocol

from dicom_node.errors import TransientError
from dicom_node.operation_settings import AlertSettings, MailSettings, WebhookSettings


@dataclass(frozen=True, slots=True)
class Notice:
    """One condition that began or ended to hold; times in seconds since the epoch."""

    condition: str
    subject: str
    text: str
    since: float
    cleared_at: float | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """What is told at once."""

    node: str
    raised: tuple[Notice, ...]
    cleared: tuple[Notice, ...]

    def title(self) -> str:
        """Return one line."""
        parts = []
        if self.raised:
            parts.append("ALERT " + ", ".join(sorted({n.condition for n in self.raised})))
        if self.cleared:
            parts.append("cleared " + ", ".join(sorted({n.condition for n in self.cleared})))
        return f"[{self.node}] {'; '.join(parts) or 'test of this channel'}"

    def body(self) -> str:
        """Return the text for people."""
        lines = [f"ALERT since {_when(n.since)}: {n.text}" for n in self.raised]
        lines += [f"cleared at {_when(n.cleared_at)}: {n.text}" for n in self.cleared]
        return "\n".join(lines or ["This is a test. Nothing is wrong."]) + "\n"

    def document(self) -> dict[str, Any]:
        """Return the same for programs."""
        return {
            "node": self.node,
            "title": self.title(),
            "raised": [_facts(n) for n in self.raised],
            "cleared": [_facts(n) for n in self.cleared],
        }


def _when(seconds: float | None) -> str:
    return datetime.fromtimestamp(seconds or 0.0, UTC).isoformat(timespec="seconds")


def _facts(notice: Notice) -> dict[str, Any]:
    facts = {
        "condition": notice.condition,
        "subject": notice.subject,
        "text": notice.text,
        "since": _when(notice.since),
    }
    return facts if notice.cleared_at is None else {**facts, "cleared_at": _when(notice.cleared_at)}


class Channel(Protocol):
    """One way to people."""

    @property
    def name(self) -> str:
        """What it is called in the log."""
        ...

    def send(self, message: Message) -> None:
        """Tell people.

        Raises
        ------
        TransientError
            It did not go out; the message holds no secret.
        """
        ...


@dataclass(frozen=True)
class Mail:
    """E-mail by SMTP; with STARTTLS the server's certificate is checked."""

    settings: MailSettings
    name: str = "e-mail"

    def send(self, message: Message) -> None:
        """Send one mail to all recipients."""
        mail = EmailMessage()
        mail["Subject"], mail["From"] = message.title()[:200], self.settings.sender
        mail["To"] = ", ".join(self.settings.recipients)
        mail.set_content(message.body())
        where = f"{self.settings.host}:{self.settings.port}"
        try:
            with smtplib.SMTP(
                self.settings.host, self.settings.port, timeout=self.settings.timeout_s
            ) as server:
                self._open(server)
                refused = server.send_message(mail)
        except (OSError, smtplib.SMTPException) as error:
            raise TransientError(f"the mail server {where} did not take it ({_kind(error)})") from error
        except ValueError as error:
            raise TransientError(str(error)) from error
        if refused:
            raise TransientError(f"the mail server {where} refused {len(refused)} of the recipients")

    def _open(self, server: smtplib.SMTP) -> None:
        if self.settings.starttls:
            ca_file = self.settings.ca_file
            server.starttls(context=ssl.create_default_context(cafile=str(ca_file) if ca_file else None))
        if self.settings.user is not None and self.settings.password is not None:
            server.login(self.settings.user, self.settings.password.read())


def _kind(error: Exception) -> str:
    """Return what kind of failure it was; a server's own words may repeat what it was sent."""
    if isinstance(error, smtplib.SMTPResponseException):
        return f"{type(error).__name__} {error.smtp_code}"
    return type(error).__name__


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows nobody elsewhere: the token is for the configured address only."""

    def redirect_request(self, *_arguments: Any, **_values: Any) -> None:
        """Refuse."""
        return


@dataclass(frozen=True)
class Webhook:
    """A POST of JSON."""

    settings: WebhookSettings
    name: str = "webhook"

    def send(self, message: Message) -> None:
        """Post the message; any answer of the class 2xx is well."""
        try:
            headers = {"Content-Type": "application/json"}
            if self.settings.token is not None:
                headers["Authorization"] = f"Bearer {self.settings.token.read()}"
            body = json.dumps(message.document()).encode()
            request = urllib.request.Request(self.settings.url, body, headers, method="POST")
            opener = urllib.request.build_opener(_NoRedirect)
            with opener.open(request, timeout=self.settings.timeout_s):
                pass
        except urllib.error.HTTPError as error:
            error.close()
            raise TransientError(f"the webhook answered {error.code}") from error
        except (OSError, ValueError) as error:
            raise TransientError(f"the webhook cannot be reached ({type(error).__name__})") from error


def channels(settings: AlertSettings) -> tuple[Channel, ...]:
    """Return the channels that are configured."""
    found: list[Channel] = []
    if settings.mail is not None:
        found.append(Mail(settings.mail))
    if settings.webhook is not None:
        found.append(Webhook(settings.webhook))
    return tuple(found)


def send_test(channel: Channel, node: str, notices: Sequence[Notice] = ()) -> None:
    """Send a message that says that it is a test; raise `TransientError` if it does not go out."""
    channel.send(Message(node, tuple(notices), ()))
