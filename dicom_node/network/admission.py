"""Who may associate: known AE titles, from their addresses, that call ours, while there is room."""

from __future__ import annotations

import ipaddress
import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from dicom_node.intake.spool import Spool
from dicom_node.settings import NodeSettings

_log = logging.getLogger(__name__)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks for an association: AE titles without padding, and the address of the connection."""

    calling_ae_title: str
    called_ae_title: str
    address: str


@dataclass(frozen=True, slots=True)
class Rejection:
    """An A-ASSOCIATE-RJ (PS3.8 table 9-21), a name to count it under, and its reason in words."""

    result: int
    source: int
    diagnostic: int
    name: str
    reason: str


CALLING_AE_UNKNOWN = Rejection(
    1, 1, 3, "calling_ae_title", "its AE title is not among allowed_calling_ae_titles or peers"
)
FOREIGN_ADDRESS = Rejection(
    1, 1, 3, "foreign_address", "its AE title may not come from this address; see allowed_addresses"
)
CALLED_AE_UNKNOWN = Rejection(1, 1, 7, "called_ae_title", "it called another AE title than ours")
CONGESTED = Rejection(2, 3, 1, "no_room", "the disk is below minimum_free_bytes")
TOO_MANY = Rejection(2, 3, 2, "too_many_associations", "maximum_associations are open")
"""PS3.8 has no diagnostic for an address: "calling AE title not recognised" is what tells a sender
that asking again changes nothing."""

# Ends of connections that never became associations, by the name they are counted under.
OUTSIDE_NETWORK = "outside_allowed_addresses"
TOO_MANY_CONNECTIONS = "too_many_connections"
TLS_FAILED = "tls_failed"
NO_ASSOCIATION = "no_association"

Admission = Callable[[Caller], Rejection | None]
"""Decides on a caller; None lets it in."""


@dataclass
class Refusals:
    """Counts of refused connections and associations by name, since the listener started."""

    _counts: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, name: str) -> None:
        """Count one."""
        with self._lock:
            self._counts[name] += 1

    def counts(self) -> Mapping[str, int]:
        """Return name to count."""
        with self._lock:
            return dict(self._counts)


def address_of(text: str) -> Address:
    """Return an address; an IPv4 address that came over IPv6 is that IPv4 address."""
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped if isinstance(mapped, ipaddress.IPv4Address) else address


def is_within(address: str, networks: Sequence[Network]) -> bool:
    """Return whether an address lies in one of the networks; no networks means everywhere."""
    if not networks:
        return True
    found = address_of(address)
    return any(found.version == network.version and found in network for network in networks)


def admission(settings: NodeSettings, spool: Spool) -> Admission:
    """Return the decision of a configuration."""
    listener = settings.listener
    places = _places(settings)

    def decide(caller: Caller) -> Rejection | None:
        if caller.called_ae_title != listener.ae_title:
            return CALLED_AE_UNKNOWN
        if caller.calling_ae_title not in places and not listener.allow_any_calling_ae_title:
            return CALLING_AE_UNKNOWN
        if not is_within(caller.address, places.get(caller.calling_ae_title, ())):
            return FOREIGN_ADDRESS
        return None if spool.has_room() else CONGESTED

    return decide


def _places(settings: NodeSettings) -> dict[str, tuple[Network, ...]]:
    """Return AE title to the networks it may come from; none means everywhere.

    Peers with one AE title are taken together; one of them without ``allowed_addresses`` lets the
    title in from everywhere. What peers say of a title counts more than the list of titles.
    """
    places: dict[str, tuple[Network, ...]] = {
        title.strip(): () for title in settings.listener.allowed_calling_ae_titles
    }
    for title in {peer.ae_title for peer in settings.peers}:
        allowed = [peer.allowed_addresses for peer in settings.peers if peer.ae_title == title]
        places[title] = tuple(chain.from_iterable(allowed)) if all(allowed) else ()
    return places
