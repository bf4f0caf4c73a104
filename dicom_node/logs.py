"""The log: how it is set up in every process, and what never goes into it.

One line for each message on standard error, as text or as JSON. A message may carry keys of what it is
about (job, study, revision); none has patient data. Texts of errors of other libraries may quote
attribute values, and so patient data: of an unexpected error only its kind and where it came from is
logged. What looks like a secret is blotted out, wherever it came from.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dicom_node.operation_settings import LogSettings

CHATTY = (
    "highdicom",
    "httpx",
    "procrastinate",
    "py.warnings",
    "pydicom",
    "pynetdicom",
    "uvicorn.access",
)
"""Libraries that say of every message what is no news, or quote values: only their errors are logged."""

BLOT = "***"
SECRETS = (
    (re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^\s/@]*@", re.IGNORECASE), rf"\1{BLOT}@"),
    (
        re.compile(
            r"\b((?:[\w-]*(?:password|passwd|secret|token|api[_-]?key))[\"']?\s*[=:]\s*)"
            r"(\"[^\"]*\"|'[^']*'|[^\s,;&]+)",
            re.IGNORECASE,
        ),
        rf"\1{BLOT}",
    ),
    (re.compile(r"\b(Bearer|Basic)\s+[A-Za-z0-9+/._~=-]{8,}", re.IGNORECASE), rf"\1 {BLOT}"),
)
"""What a secret looks like: in an address, after its name, in a header."""

_NOTHING: Mapping[str, str] = MappingProxyType({})
_keys: ContextVar[Mapping[str, str]] = ContextVar("log_keys", default=_NOTHING)


def frames(error: BaseException) -> str:
    """Return the kind of an error and the lines of code it came through, without its message."""
    return f"{type(error).__name__}\n{''.join(traceback.format_tb(error.__traceback__))}"


def without_secrets(text: str) -> str:
    """Return a text with everything blotted out that looks like a secret."""
    for pattern, replacement in SECRETS:
        text = pattern.sub(replacement, text)
    return text


@contextmanager
def log_keys(**keys: object) -> Iterator[None]:
    """Give every message of this thread and block these keys: job, study, revision, and no names."""
    known = _keys.get()
    token = _keys.set(MappingProxyType({**known, **{k: str(v) for k, v in keys.items()}}))
    try:
        yield
    finally:
        _keys.reset(token)


def current_keys() -> Mapping[str, str]:
    """Return the keys that messages have here."""
    return _keys.get()


class TextFormatter(logging.Formatter):
    """One message for people; an error without its own words."""

    def __init__(self, role: str) -> None:
        super().__init__("%(asctime)s %(levelname)s %(role)s %(name)s %(message)s")
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, with its keys at the end."""
        record.role = self._role
        text = super().format(record)
        keys = "".join(f" {k}={v}" for k, v in current_keys().items())
        return without_secrets(text + (f" [{keys[1:]}]" if keys else ""))

    def formatException(self, ei: Any) -> str:
        """Return where an error came from, without its message."""
        return _trace(ei)


class JsonFormatter(logging.Formatter):
    """One JSON object on one line."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        content: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "role": self._role,
            "process": record.process,
            "logger": record.name,
            "message": without_secrets(record.getMessage()),
            **current_keys(),
        }
        if record.exc_info and record.exc_info[0] is not None:
            content["error"] = _trace(record.exc_info)
        return json.dumps(content, ensure_ascii=False)


def _trace(exc_info: Any) -> str:
    """Return the kind of an error and of those behind it, and the lines it came through."""
    error: BaseException | None = exc_info[1]
    parts: list[str] = []
    while error is not None and len(parts) < 8:
        parts.append(frames(error).rstrip())
        error = error.__cause__ or error.__context__
    return "\nafter ".join(parts)


def configure_logging(role: str, settings: LogSettings, stream: TextIO | None = None) -> None:
    """Set up the log of this process; every role of the node calls this once."""
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(JsonFormatter(role) if settings.format == "json" else TextFormatter(role))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(settings.level)
    logging.captureWarnings(True)
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)
