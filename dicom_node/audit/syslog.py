"""Audit messages to a syslog server: RFC 5424 by UDP (RFC 5426), TCP or TLS (RFC 5425); see PS3.15 A.6.

Syslog has no answer: what was written to a connection that was about to break may be lost. The file of the
node has every record; numbers in what the server got show whether one is missing there.
"""

from __future__ import annotations

import os
import socket
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime

from dicom_node.audit.chain import Record
from dicom_node.clock import Clock
from dicom_node.errors import TransientError
from dicom_node.operation_settings import SyslogSettings, SyslogTransport

PRIORITY = 10 * 8 + 5
"""Facility 10, security; severity 5, notice."""
MESSAGE_ID = "DICOM+RFC3881"
STRUCTURED = "hepatocast@32473"
"""32473 is the enterprise number of examples (RFC 5612); it says what the numbers are, to people."""
LONGEST_DATAGRAM = 65000
BOM = "\N{ZERO WIDTH NO-BREAK SPACE}"


def syslog_message(record: Record, host: str, at: float) -> bytes:
    """Return one record as a syslog message (RFC 5424 section 6)."""
    time = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    structured = f'[{STRUCTURED} n="{record.number}" digest="{record.digest}"]'
    head = f"<{PRIORITY}>1 {time} {host} hepatocast {os.getpid()} {MESSAGE_ID} {structured} "
    return (head + BOM + record.message).encode()


@dataclass
class Syslog:
    """A connection to one server, opened when it is needed and kept."""

    settings: SyslogSettings
    clock: Clock
    host: str = field(default_factory=socket.gethostname)
    _connection: socket.socket | None = None

    def send(self, records: list[Record]) -> None:
        """Send records in their order.

        Raises
        ------
        TransientError
            The server cannot be reached; nothing or a part was sent.
        """
        try:
            for record in records:
                self._send(syslog_message(record, self.host, self.clock()))
        except OSError as error:
            self.close()
            where = f"{self.settings.host}:{self.settings.port}"
            raise TransientError(
                f"the syslog server {where} cannot be reached ({type(error).__name__})"
            ) from error

    def _send(self, message: bytes) -> None:
        if self._connection is None:
            self._connection = self._open()
        if self.settings.transport is SyslogTransport.UDP:
            self._connection.send(message[:LONGEST_DATAGRAM])
        else:
            self._connection.sendall(b"%d %s" % (len(message), message))  # octet counting, RFC 5425 4.3

    def _open(self) -> socket.socket:
        settings = self.settings
        address = (settings.host, settings.port)
        if settings.transport is SyslogTransport.UDP:
            family, kind, protocol, _, target = socket.getaddrinfo(*address, type=socket.SOCK_DGRAM)[0]
            connection = socket.socket(family, kind, protocol)
            connection.connect(target)
            return connection
        connection = socket.create_connection(address, settings.timeout_s)
        if settings.transport is SyslogTransport.TCP:
            return connection
        try:
            return self._context().wrap_socket(connection, server_hostname=settings.host)
        except OSError:
            connection.close()
            raise

    def _context(self) -> ssl.SSLContext:
        settings = self.settings
        context = ssl.create_default_context(cafile=str(settings.ca_file) if settings.ca_file else None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if settings.certificate is not None:
            context.load_cert_chain(settings.certificate, settings.key)
        return context

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
