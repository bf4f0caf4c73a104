"""`hepatocast check` on TLS: what can be used, and until when."""

from __future__ import annotations

from pathlib import Path

from dicom_node.clock import system_clock
from dicom_node.selftest import check_tls
from dicom_node.settings import load_settings
from dicom_node.tls_settings import ListenerTls
from tests.builders.listeners import listener_settings
from tests.builders.tls import Authority, Identity


def files_of(identity: Identity, authority: Authority) -> dict[str, str]:
    return {
        "certificate_file": str(identity.certificate),
        "key_file": str(identity.key),
        "ca_file": str(authority.certificate),
    }


def test_check_says_how_long_certificates_are_valid(tmp_path: Path, needs_judge, clock) -> None:
    authority = Authority(needs_judge("openssl"), tmp_path / "ca").create()
    node = authority.issue("node")
    soon, old = authority.issue("pacs", days=10), authority.issue("pacs", days=-1)
    peers = tuple(
        {"name": name, "ae_title": "PACS", "host": "pacs", "port": 104, "tls": files_of(identity, authority)}
        for name, identity in (("soon", soon), ("old", old))
    )
    settings = listener_settings(tmp_path / "data", peers=peers, tls=files_of(node, authority))
    found = {(c.subject, c.name): c for c in check_tls(settings, system_clock)}
    assert found["listener", "TLS certificate"].passed
    assert "59 days" in found["listener", "TLS certificate"].detail
    assert found["listener", "TLS authorities"].passed
    assert found["listener", "TLS"].passed
    assert not found["soon", "TLS certificate"].passed
    assert "9 days; renew it" in found["soon", "TLS certificate"].detail
    assert "expired on" in found["old", "TLS certificate"].detail
    clock.now = 0.0
    early = {(c.subject, c.name): c for c in check_tls(settings, clock)}
    assert "look at the clock" in early["listener", "TLS certificate"].detail
    gone = load_settings([]).model_copy(
        update={"listener": settings.listener.model_copy(update={"tls": ListenerTls(
            certificate_file=Path("gone.pem"), key_file=Path("gone.key"), ca_file=authority.certificate
        )})}
    )  # fmt: skip
    assert [c.passed for c in check_tls(gone, system_clock)] == [False, True, False]
