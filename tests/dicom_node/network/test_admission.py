"""Who may associate: AE title and address together, and what is counted."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from dicom_node.intake.spool import Spool
from dicom_node.network.admission import (
    CALLED_AE_UNKNOWN,
    CALLING_AE_UNKNOWN,
    CONGESTED,
    FOREIGN_ADDRESS,
    Caller,
    Rejection,
    address_of,
    admission,
    is_within,
)
from dicom_node.network.scp import listening
from dicom_node.settings import NodeSettings, PeerSettings
from tests.builders.listeners import listener_settings
from tests.builders.raw_peers import associate_rq, connected, read_one_pdu, read_to_end
from tests.builders.waiting import until


def peer(name: str, ae_title: str, *addresses: str) -> dict[str, Any]:
    allowed = {"allowed_addresses": list(addresses)} if addresses else {}
    return {"name": name, "ae_title": ae_title, "host": "pacs.hospital", "port": 104, **allowed}


def decision(
    settings: NodeSettings, calling: str, address: str, called: str = "HEPATOCAST", free: int = 10**12
) -> Rejection | None:
    spool = Spool(settings.data_dir, settings.listener.minimum_free_bytes, lambda _folder: free)
    return admission(settings, spool)(Caller(calling, called, address))


@pytest.mark.parametrize(
    ("calling", "address", "expected"),
    [
        ("PACS", "10.1.2.3", None),
        ("PACS", "10.2.0.1", FOREIGN_ADDRESS),
        ("PACS", "192.168.7.9", None),
        ("PACS", "192.168.7.10", FOREIGN_ADDRESS),
        ("PACS", "2001:db8::7", None),
        ("PACS", "2001:db9::7", FOREIGN_ADDRESS),
        ("PACS", "::ffff:10.1.2.3", None),
        ("ANYWHERE", "203.0.113.1", None),
        ("SENDER", "203.0.113.1", None),
        ("UNKNOWN", "10.1.2.3", CALLING_AE_UNKNOWN),
    ],
)
def test_a_title_comes_in_from_its_addresses_only(
    tmp_path: Path, calling: str, address: str, expected: Rejection | None
) -> None:
    peers = (
        peer("pacs", "PACS", "10.1.0.0/16", "192.168.7.9", "2001:db8::/64"),
        peer("other", "ANYWHERE"),
    )
    assert decision(listener_settings(tmp_path / "data", peers=peers), calling, address) == expected


def test_peers_with_one_title_are_taken_together(tmp_path: Path) -> None:
    both = (peer("a", "PACS", "10.1.0.0/16"), peer("b", "PACS", "10.2.0.0/16"))
    settings = listener_settings(tmp_path / "data", peers=both)
    assert decision(settings, "PACS", "10.1.0.1") is None
    assert decision(settings, "PACS", "10.2.0.1") is None
    assert decision(settings, "PACS", "10.3.0.1") == FOREIGN_ADDRESS
    open_too = listener_settings(tmp_path / "data", peers=(both[0], peer("c", "PACS")))
    assert decision(open_too, "PACS", "10.3.0.1") is None


def test_a_peers_addresses_count_also_where_its_title_is_listed_or_every_title_is_allowed(
    tmp_path: Path,
) -> None:
    peers = (peer("pacs", "PACS", "10.1.0.0/16"),)
    listed = listener_settings(tmp_path / "data", peers=peers, allowed_calling_ae_titles=["PACS"])
    assert decision(listed, "PACS", "10.2.0.1") == FOREIGN_ADDRESS
    anybody = listener_settings(tmp_path / "data", peers=peers, allow_any_calling_ae_title=True)
    assert decision(anybody, "PACS", "10.2.0.1") == FOREIGN_ADDRESS
    assert decision(anybody, "UNKNOWN", "10.2.0.1") is None


def test_called_title_and_room_are_looked_at_too(tmp_path: Path) -> None:
    settings = listener_settings(tmp_path / "data", minimum_free_bytes=1000)
    assert decision(settings, "SENDER", "10.1.1.1", called="OTHER") == CALLED_AE_UNKNOWN
    assert decision(settings, "SENDER", "10.1.1.1", free=999) == CONGESTED
    assert decision(settings, "SENDER", "10.1.1.1", free=1000) is None


@pytest.mark.parametrize("wrong", ["10.1.2.3/8", "10.1.2", "pacs.hospital", "10.0.0.0/40"])
def test_what_is_no_network_is_refused_when_the_settings_are_read(wrong: str) -> None:
    with pytest.raises(ValidationError, match="allowed_addresses"):
        PeerSettings.model_validate(peer("pacs", "PACS", wrong))


def test_addresses_are_compared_as_addresses() -> None:
    assert str(address_of("::ffff:10.0.0.5")) == "10.0.0.5"
    assert str(address_of("fe80::1%eth0")) == "fe80::1"
    assert is_within("10.0.0.5", ())


def answer(port: int, calling: str) -> bytes:
    with connected(port) as connection:
        connection.sendall(associate_rq(calling=calling))
        kind, body = read_one_pdu(connection)
        return bytes([kind]) + body


def test_a_known_title_from_a_foreign_address_is_rejected_and_counted(tmp_path: Path, caplog) -> None:
    """A-ASSOCIATE-RJ: rejected permanent, service user, calling AE title not recognised."""
    peers = (peer("pacs", "PACS", "10.1.0.0/16"), peer("here", "HERE", "127.0.0.0/8"))
    with listening(listener_settings(tmp_path / "data", peers=peers)) as server:
        assert answer(server.port, "PACS") == b"\x03\0\x01\x01\x03"
        assert answer(server.port, "HERE")[0] == 2
        assert answer(server.port, "STRANGER") == b"\x03\0\x01\x01\x03"
        assert server.refusals.counts() == {"foreign_address": 1, "calling_ae_title": 1}
    assert (
        "PACS at 127.0.0.1: association rejected: its AE title may not come from this address" in caplog.text
    )


def test_who_is_outside_the_listeners_addresses_is_not_even_read(tmp_path: Path) -> None:
    settings = listener_settings(tmp_path / "data", allowed_addresses=["10.0.0.0/8"])
    with listening(settings) as server:
        with connected(server.port) as connection:
            with suppress(OSError):
                connection.sendall(associate_rq())
            assert read_to_end(connection) == b""
        until(lambda: server.refusals.counts() == {"outside_allowed_addresses": 1})
        assert not server.connections.count()
