"""How long a certificate is valid: read from its DER encoding (X.509, RFC 5280 section 4.1)."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dicom_node.errors import ConfigurationError

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_SEQUENCE, _VERSION, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18
_TIMES = {_UTC_TIME: "%y%m%d%H%M%SZ", _GENERALIZED_TIME: "%Y%m%d%H%M%SZ"}
_VALIDITY = 3
"""Place of the validity in a TBSCertificate: after serial number, signature algorithm and issuer."""


RENEW_WITHIN_DAYS = 30


@dataclass(frozen=True, slots=True)
class Validity:
    """From when until when a certificate is valid, in UTC."""

    not_before: datetime
    not_after: datetime


def validities(path: Path) -> tuple[Validity, ...]:
    """Return the validity of each certificate of a PEM file, the first one first.

    Raises
    ------
    ConfigurationError
        The file cannot be read, or holds no certificate.
    """
    try:
        text = path.read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise ConfigurationError(f"cannot read certificate {path} ({error.strerror})") from error
    try:
        found = tuple(_validity(ssl.PEM_cert_to_DER_cert(pem)) for pem in _PEM.findall(text))
    except (ValueError, IndexError, KeyError) as error:
        raise ConfigurationError(f"a certificate in {path} is damaged") from error
    if not found:
        raise ConfigurationError(f"{path} holds no certificate in PEM")
    return found


def judged(found: Sequence[Validity], now: datetime) -> tuple[bool, str]:
    """Return whether all certificates are valid now and for `RENEW_WITHIN_DAYS`, and until when."""
    ends = min(v.not_after for v in found)
    starts = max(v.not_before for v in found)
    days = (ends - now).days
    if now < starts:
        return False, f"not valid before {starts:%Y-%m-%d %H:%M} UTC; look at the clock of this machine"
    if now > ends:
        return False, f"expired on {ends:%Y-%m-%d}; renew it"
    return days >= RENEW_WITHIN_DAYS, f"valid until {ends:%Y-%m-%d}, {days} days" + (
        "" if days >= RENEW_WITHIN_DAYS else "; renew it"
    )


def _validity(der: bytes) -> Validity:
    (_, certificate), *_ = _elements(der)
    (_, to_be_signed), *_ = _elements(certificate)
    fields = [element for element in _elements(to_be_signed) if element[0] != _VERSION]
    tag, validity = fields[_VALIDITY]
    if tag != _SEQUENCE:
        raise ValueError("no validity where it belongs")
    start, end = (_time(*element) for element in _elements(validity))
    return Validity(start, end)


def _time(tag: int, text: bytes) -> datetime:
    # Two digits of a year are 1950 to 2049 (RFC 5280 section 4.1.2.5.1); strptime turns at 1969.
    moment = datetime.strptime(text.decode("ascii"), _TIMES[tag]).replace(tzinfo=UTC)
    if tag == _UTC_TIME and moment.year >= 2050:
        return moment.replace(year=moment.year - 100)
    return moment


def _elements(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and content of each element (X.690 section 8.1)."""
    at = 0
    while at < len(der):
        tag, length = der[at], der[at + 1]
        at += 2
        if length & 0x80:
            size = length & 0x7F
            length = int.from_bytes(der[at : at + size], "big")
            at += size
        if at + length > len(der):
            raise ValueError("an element is longer than what holds it")
        yield tag, der[at : at + length]
        at += length
