"""DICOM TLS with DCMTK's tools and Orthanc, both ways; and who is refused."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from pynetdicom import AE
from pynetdicom.presentation import build_context

from dicom_node.clock import system_clock
from dicom_node.errors import ConfigurationError, TransientError
from dicom_node.network.certificates import judged, validities
from dicom_node.network.commitment import request_commitment
from dicom_node.network.contexts import VERIFICATION
from dicom_node.network.query import PeerQuery
from dicom_node.network.scp import listening, tls_port_file
from dicom_node.network.scu import echo, read_part10, store_session
from dicom_node.network.tls import client_context, server_context
from dicom_node.network.transport import GuardedServer
from dicom_node.settings import PeerSettings
from dicom_node.tls_settings import ListenerTls, PeerTls
from tests.builders.dicom_files import CT, Called, ct_series, ct_slice, send
from tests.builders.listeners import listener_settings
from tests.builders.orthanc import Orthanc, free_port
from tests.builders.outboxes import OURS, Delivery, orthanc_peer
from tests.builders.raw_peers import associate_rq, connected, read_to_end
from tests.builders.tls import Authority, Identity
from tests.builders.waiting import until

PROFILES = ("bcp195", "bcp195_extended")
DCMTK_PROFILES = {"non-downgrading": "+py", "bcp195": "+px", "extended": "+pz"}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory, needs_judge) -> Authority:
    return Authority(needs_judge("openssl"), tmp_path_factory.mktemp("ca")).create()


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory, needs_judge) -> Authority:
    """An authority that nobody trusts."""
    return Authority(needs_judge("openssl"), tmp_path_factory.mktemp("other"), "Other CA").create()


@pytest.fixture(scope="module")
def node(authority: Authority) -> Identity:
    return authority.issue("node")


@pytest.fixture(scope="module")
def scanner(authority: Authority) -> Identity:
    return authority.issue("scanner")


def files_of(identity: Identity, authority: Authority, **more: Any) -> dict[str, Any]:
    return {
        "certificate_file": str(identity.certificate),
        "key_file": str(identity.key),
        "ca_file": str(authority.certificate),
        **more,
    }


@contextmanager
def tls_listener(tmp_path: Path, tls: dict[str, Any], **listener: Any) -> Iterator[GuardedServer]:
    with listening(listener_settings(tmp_path / "data", tls=tls, **listener)) as server:
        yield server


def dcmtk(program: str, identity: Identity, authority: Authority, port: int, *more: str) -> int:
    """Run a sending tool of DCMTK with TLS; return its exit code."""
    trust = ["+cf", str(authority.certificate)]
    command = [program, "+tls", str(identity.key), str(identity.certificate), *trust, *more[:1]]
    command += ["-aet", "SENDER", "-aec", "HEPATOCAST", "127.0.0.1", str(port), *more[1:]]
    return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode


# --- the listener -------------------------------------------------------------------------------


@pytest.mark.parametrize("theirs", DCMTK_PROFILES)
@pytest.mark.parametrize("ours", PROFILES)
def test_dcmtk_sends_with_each_profile(
    tmp_path: Path, authority: Authority, node: Identity, scanner: Identity, needs_judge,
    ours: str, theirs: str,
) -> None:  # fmt: skip
    ct_slice().save_as(tmp_path / "one.dcm", enforce_file_format=True)
    with tls_listener(tmp_path, files_of(node, authority, profile=ours)) as server:
        storescu = needs_judge("storescu")
        arguments = (DCMTK_PROFILES[theirs], str(tmp_path / "one.dcm"))
        assert dcmtk(storescu, scanner, authority, server.port, *arguments) == 0
    assert len(list((tmp_path / "data" / "spool").rglob("*.dcm"))) == 1


def test_rsa_certificates(tmp_path: Path, authority: Authority, needs_judge) -> None:
    ours, theirs = authority.issue("node", kind="RSA"), authority.issue("scanner", kind="RSA")
    with tls_listener(tmp_path, files_of(ours, authority)) as server:
        assert dcmtk(needs_judge("echoscu"), theirs, authority, server.port, "+py") == 0


def handshake(port: int, context: ssl.SSLContext) -> str:
    """Try to be a client; return the version of TLS, or raise what a client sees."""
    with connected(port) as plain, context.wrap_socket(plain, server_hostname="localhost") as connection:
        version = connection.version()
        connection.settimeout(5)
        connection.sendall(
            b"GET / HTTP/1.0\r\n\r\n"
        )  # over TLS, so that only a good handshake gets an answer
        if not connection.recv(1):
            raise ConnectionResetError("closed")
    return str(version)


def client(authority: Authority, identity: Identity | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.certificate)
    if identity is not None:
        context.load_cert_chain(identity.certificate, identity.key)
    return context


def _old(context: ssl.SSLContext) -> ssl.SSLContext:
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


def _weak(context: ssl.SSLContext) -> ssl.SSLContext:
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AES+SHA256:ECDHE+AES+SHA")  # no authenticated encryption
    return context


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("profile", PROFILES)
def test_tls_1_2_and_1_3_are_accepted(
    tmp_path: Path, authority: Authority, node: Identity, scanner: Identity, version: Any, profile: str
) -> None:
    context = client(authority, scanner)
    context.minimum_version = context.maximum_version = version
    with tls_listener(tmp_path, files_of(node, authority, profile=profile)) as server:
        assert handshake(server.port, context) == version.name.replace("_", ".")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
@pytest.mark.parametrize(
    ("who", "reason"),
    [
        ("unknown authority", "certificate is refused"),
        ("expired", "certificate has expired"),
        ("no certificate", "shows no certificate"),
        ("TLS 1.1", "no version of TLS from 1.2 on"),
        ("weak suites", "no cipher suite of the profile"),
    ],
)
def test_who_is_refused_and_why(
    tmp_path: Path, authority: Authority, stranger: Authority, node: Identity, scanner: Identity,
    who: str, reason: str, caplog,
) -> None:  # fmt: skip
    contexts: dict[str, Callable[[], ssl.SSLContext]] = {
        "unknown authority": lambda: client(authority, stranger.issue("scanner")),
        "expired": lambda: client(authority, authority.issue("old", days=-1)),
        "no certificate": lambda: client(authority, None),
        "TLS 1.1": lambda: _old(client(authority, scanner)),
        "weak suites": lambda: _weak(client(authority, scanner)),
    }
    with tls_listener(tmp_path, files_of(node, authority)) as server:
        with pytest.raises(OSError, match=r"."):
            handshake(server.port, contexts[who]())
        until(lambda: server.refusals.counts())
        assert server.refusals.counts() == {"tls_failed": 1}
        assert reason in caplog.text
        assert handshake(server.port, client(authority, scanner))  # and others still come in
    assert not server.ae.active_associations


def test_without_tls_nothing_comes_in(tmp_path: Path, authority: Authority, node: Identity, caplog) -> None:
    with tls_listener(tmp_path, files_of(node, authority)) as server, connected(server.port) as plain:
        plain.sendall(associate_rq())
        assert read_to_end(plain)[:1] in (b"", b"\x15")  # closed, or a TLS alert first; no A-ASSOCIATE-AC
        until(lambda: server.refusals.counts())
    assert "no TLS" in caplog.text


def test_a_certificate_is_not_asked_for_where_that_is_set(
    tmp_path: Path, authority: Authority, node: Identity
) -> None:
    tls = files_of(node, authority, client_certificates="not_asked")
    with tls_listener(tmp_path, tls) as server:
        assert handshake(server.port, client(authority, None))


def test_a_silent_connection_does_not_hold_up_the_handshake_of_others(
    tmp_path: Path, authority: Authority, node: Identity, scanner: Identity
) -> None:
    tls = files_of(node, authority)
    with tls_listener(tmp_path, tls) as server:
        with connected(server.port):
            ae = AE(ae_title="SENDER")
            association = ae.associate(
                "127.0.0.1", server.port, contexts=[build_context(VERIFICATION)], ae_title="HEPATOCAST",
                tls_args=(client(authority, scanner), "localhost"),
            )  # fmt: skip
            assert association.is_established
            assert association.send_c_echo().Status == 0
            association.release()
        until(lambda: not server.connections.count())


def test_a_handshake_that_stalls_ends_at_the_deadline(
    tmp_path: Path, authority: Authority, node: Identity
) -> None:
    with tls_listener(tmp_path, files_of(node, authority), association_deadline_s=0.5) as server:
        with connected(server.port) as silent:
            silent.sendall(b"\x16\x03\x01\x02\x00")  # the start of a ClientHello
            assert read_to_end(silent) == b""
        assert server.refusals.counts() == {"tls_failed": 1}


def test_a_second_port_has_tls_and_the_first_has_not(
    tmp_path: Path, authority: Authority, node: Identity, scanner: Identity, needs_judge
) -> None:
    with tls_listener(tmp_path, files_of(node, authority, port=0), maximum_associations=1) as server:
        second = int(tls_port_file(tmp_path / "data").read_text())
        assert send([ct_slice()], Called(server.port)) == [0]
        echoscu = needs_judge("echoscu")
        assert dcmtk(echoscu, scanner, authority, second, "+py") == 0
        until(lambda: not server.connections.count())
        ae = AE(ae_title="SENDER")
        held = ae.associate(
            "127.0.0.1", server.port, contexts=[build_context(VERIFICATION)], ae_title="HEPATOCAST"
        )
        assert held.is_established
        assert dcmtk(echoscu, scanner, authority, second, "+py") != 0  # the ports share their places
        assert server.refusals.counts() == {"too_many_associations": 1}
        held.release()
    assert not tls_port_file(tmp_path / "data").exists()


# --- associations that the node opens -----------------------------------------------------------


@contextmanager
def storescp(program: str, identity: Identity, trusted: Path, folder: Path) -> Iterator[int]:
    """Run DCMTK's SCP with TLS; it wants a certificate of whoever connects."""
    folder.mkdir()
    port = free_port()
    command = [program, "+tls", str(identity.key), str(identity.certificate), "+cf", str(trusted), "+py"]
    with subprocess.Popen(
        [*command, "+xa", "-od", str(folder), "-aet", "PACS", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "TCP_NODELAY": "1"},
    ) as process:  # fmt: skip
        try:
            until(lambda: _listens(port))
            yield port
        finally:
            process.kill()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def peer_at(port: int, **tls: Any) -> PeerSettings:
    return PeerSettings(
        name="pacs", ae_title="PACS", host="127.0.0.1", port=port, tls=PeerTls(**tls), association_timeout_s=5
    )


@pytest.mark.parametrize("profile", PROFILES)
def test_objects_go_to_dcmtk_with_tls(
    tmp_path: Path, authority: Authority, node: Identity, scanner: Identity, needs_judge, profile: str
) -> None:
    paths = []
    for ds in ct_series(3, rows=300):  # longer than one PDU
        paths.append(tmp_path / f"{ds.InstanceNumber}.dcm")
        ds.save_as(paths[-1], enforce_file_format=True)
    files = [read_part10(p) for p in paths]
    kinds = {(f.sop_class_uid, f.transfer_syntax_uid) for f in files}
    got = tmp_path / "got"
    with storescp(needs_judge("storescp"), scanner, authority.certificate, got) as port:
        peer = peer_at(port, **files_of(node, authority, profile=profile))
        echo(peer, OURS)
        with store_session(peer, OURS, kinds) as session:
            assert [session.store(f) for f in files] == [0, 0, 0]
    received = {bytes(read_part10(p).data_set) for p in got.iterdir()}
    assert received == {bytes(f.data_set) for f in files}


@pytest.mark.parametrize(
    ("who", "reason"),
    [
        ("unknown authority", "certificate is refused"),
        ("expired", "expired"),
        ("other name", "certificate is refused"),
        ("wants our certificate", "association request|certificate|no TLS"),
    ],
)
def test_a_peer_that_cannot_be_trusted_gets_nothing(
    tmp_path: Path, authority: Authority, stranger: Authority, node: Identity, scanner: Identity,
    needs_judge, who: str, reason: str,
) -> None:  # fmt: skip
    identities: dict[str, Callable[[], Identity]] = {
        "unknown authority": lambda: stranger.issue("pacs"),
        "expired": lambda: authority.issue("pacs", days=-1),
        "other name": lambda: authority.issue("workstation", alternative="DNS:workstation.hospital"),
        "wants our certificate": lambda: scanner,
    }
    with storescp(
        needs_judge("storescp"), identities[who](), authority.certificate, tmp_path / "got"
    ) as port:
        tls = files_of(node, authority)
        if who == "wants our certificate":
            tls = {"ca_file": tls["ca_file"]}
        with pytest.raises(TransientError, match=reason):
            echo(peer_at(port, **tls), OURS)


def test_the_name_of_the_peers_certificate_may_be_another_than_its_address(
    tmp_path: Path, authority: Authority, node: Identity, needs_judge
) -> None:
    identity = authority.issue("workstation", alternative="DNS:workstation.hospital")
    with storescp(needs_judge("storescp"), identity, authority.certificate, tmp_path / "got") as port:
        echo(peer_at(port, **files_of(node, authority, certificate_name="workstation.hospital")), OURS)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
def test_a_peer_with_tls_1_1_only_gets_nothing(
    authority: Authority, node: Identity, scanner: Identity
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(scanner.certificate, scanner.key)
    _old(context)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection, pytest.raises(OSError, match=r"."):
                context.wrap_socket(connection, server_side=True)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(TransientError, match=r"from 1\.2 on"):
            echo(peer_at(server.getsockname()[1], **files_of(node, authority)), OURS)
        thread.join()


def test_a_peer_that_has_no_tls_gets_nothing(tmp_path: Path, authority: Authority, node: Identity) -> None:
    with listening(listener_settings(tmp_path / "data")) as plain:
        with pytest.raises(TransientError, match="no TLS with pacs"):
            echo(peer_at(plain.port, **files_of(node, authority)), OURS)


def test_everything_with_orthanc_over_tls(
    tmp_path: Path, authority: Authority, node: Identity, scanner: Identity, needs_judge
) -> None:
    """Stored, committed by a report that Orthanc brings over TLS, and read back by C-GET."""
    port = free_port()
    secure = {
        "DicomTlsEnabled": True,
        "DicomTlsCertificate": str(scanner.certificate),
        "DicomTlsPrivateKey": str(scanner.key),
        "DicomTlsTrustedCertificates": str(authority.certificate),
        "DicomTlsRemoteCertificateRequired": True,
        "DicomModalities": {
            OURS: {
                "AET": OURS, "Host": "127.0.0.1", "Port": port, "UseDicomTls": True,
                "AllowEcho": True, "AllowFind": True, "AllowGet": True, "AllowMove": True, "AllowStore": True,
                "AllowStorageCommitment": True,
            }
        },
    }  # fmt: skip
    with Orthanc(needs_judge("Orthanc"), options=secure) as orthanc:
        tls = files_of(node, authority)
        peer = orthanc_peer(orthanc, dicomweb_url=None, tls=tls)
        delivery = Delivery(tmp_path / "data", system_clock, [peer], port)
        settings = delivery.settings.model_copy(
            update={"listener": delivery.settings.listener.model_copy(update={"tls": ListenerTls(**tls)})}
        )
        with pytest.raises(TransientError):
            echo(settings.peer("pacs").model_copy(update={"tls": None}), OURS)
        delivery.add_slices(3)
        with listening(settings):
            delivery.until_counts(VERIFIED=3)
        found = PeerQuery(settings.peer("pacs"), OURS).series("1.2.826.1")
        assert [s.instances for s in found.values()] == [3]
        uids = [(str(CT), uid) for uid in orthanc.instances("1.2.826.1")]
        with listening(settings):
            request_commitment(settings.peer("pacs"), OURS, "2.25.77", uids)


# --- keys, passwords, settings ------------------------------------------------------------------


def test_a_key_password_comes_from_a_file_or_the_environment(
    tmp_path: Path, authority: Authority, node: Identity, monkeypatch
) -> None:
    locked = authority.encrypt(node, "swordfish")
    tls = {**files_of(node, authority), "key_file": str(locked)}
    (tmp_path / "password").write_text("swordfish\n")
    monkeypatch.setenv("KEY_PASSWORD", "swordfish")
    for where in (
        {"key_password_file": str(tmp_path / "password")},
        {"key_password_environment": "KEY_PASSWORD"},
    ):
        server_context(ListenerTls(**tls, **where))
        client_context(PeerTls(**tls, **where))
        assert "swordfish" not in repr(ListenerTls(**tls, **where))


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({}, "the TLS key is encrypted"),
        ({"key_password_environment": "ABSENT_VARIABLE"}, "no ABSENT_VARIABLE"),
        ({"key_password_file": "absent"}, "cannot read absent"),
        ({"key_password_environment": "WRONG_PASSWORD"}, "right password"),
    ],
)
def test_a_key_that_cannot_be_opened_is_said_and_never_asked_for(
    authority: Authority, node: Identity, monkeypatch, where: dict[str, str], message: str
) -> None:
    monkeypatch.setenv("WRONG_PASSWORD", "marlin")
    tls = {**files_of(node, authority), "key_file": str(authority.encrypt(node, "swordfish"))}
    with pytest.raises(ConfigurationError, match=message) as error:
        server_context(ListenerTls(**tls, **where))
    assert "marlin" not in str(error.value)


def test_files_that_do_not_belong_together_are_said(
    tmp_path: Path, authority: Authority, node: Identity, scanner: Identity
) -> None:
    with pytest.raises(ConfigurationError, match="belong together"):
        server_context(ListenerTls(**{**files_of(node, authority), "key_file": str(scanner.key)}))
    (tmp_path / "empty.pem").write_text("nothing\n")
    for file in ("absent.pem", "empty.pem"):
        with pytest.raises(ConfigurationError, match=file):
            server_context(ListenerTls(**{**files_of(node, authority), "ca_file": str(tmp_path / file)}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"certificate_file": "a", "key_file": "b"}, "ca_file is missing"),
        (
            {"certificate_file": "a", "key_file": "b", "ca_file": "c",
             "key_password_file": "d", "key_password_environment": "E"},
            "not both",
        ),
        ({"certificate_file": "a", "key_file": "b", "ca_file": "c", "profile": "basic"}, "bcp195"),
    ],
)  # fmt: skip
def test_wrong_settings_are_refused(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ListenerTls(**settings)
    with pytest.raises(ValidationError, match="belong together"):
        PeerTls(ca_file=Path("a"), certificate_file=Path("b"))


def test_the_validity_of_a_certificate_agrees_with_openssl(authority: Authority, node: Identity) -> None:
    command = [
        authority.openssl,
        "x509",
        "-in",
        str(node.certificate),
        "-noout",
        "-enddate",
        "-dateopt",
        "iso_8601",
    ]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    (validity,) = validities(node.certificate)
    assert told.strip() == f"notAfter={validity.not_after:%Y-%m-%d %H:%M:%S}Z"
    assert judged([validity], validity.not_after)[0] is False


def test_a_file_without_a_certificate_is_said(tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n")
    with pytest.raises(ConfigurationError, match="damaged"):
        validities(tmp_path / "no.pem")
    (tmp_path / "no.pem").write_text("nothing")
    with pytest.raises(ConfigurationError, match="no certificate"):
        validities(tmp_path / "no.pem")
