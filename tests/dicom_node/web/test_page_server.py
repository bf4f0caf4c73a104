"""The page's process: where it may listen, TLS, and that it says where it is."""

from __future__ import annotations

import socket
import ssl
import urllib.error
import urllib.request

import pytest

from dicom_node.errors import ConfigurationError
from dicom_node.web.server import check_binding, page_port_file, page_secret, serving_page
from dicom_node.web.users import Role
from tests.builders.nodes import Node
from tests.builders.pages import PageOfNode, page_settings
from tests.builders.tls import Authority


@pytest.fixture
def data_dir(tmp_path, clock):
    Node(tmp_path / "data", clock)
    return tmp_path / "data"


def _get(url: str, context: ssl.SSLContext | None = None) -> tuple[int, str]:
    opener = urllib.request.build_opener(
        urllib.request.HTTPSHandler(context=context) if context else urllib.request.HTTPHandler()
    )
    try:
        with opener.open(url, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_page_is_served_on_loopback_and_announces_its_port(data_dir):
    settings = page_settings(data_dir)
    with serving_page(settings) as port:
        assert int(page_port_file(data_dir).read_text()) == port
        assert _get(f"http://127.0.0.1:{port}/healthz") == (200, "ok\n")
        status, text = _get(f"http://127.0.0.1:{port}/login")
        assert status == 200
        assert "hepatocast web add-user" in text
        status, text = _get(f"http://127.0.0.1:{port}/metrics")
        assert status == 200
        assert "hepatocast_study_revisions" in text
    assert not page_port_file(data_dir).exists()


def test_page_by_tls(data_dir, tmp_path):
    authority = Authority("openssl", tmp_path / "ca").create()
    own = authority.issue("page")
    settings = page_settings(data_dir, tls_certificate=own.certificate, tls_key=own.key)
    context = ssl.create_default_context(cafile=str(authority.certificate))
    with serving_page(settings) as port:
        assert _get(f"https://127.0.0.1:{port}/healthz", context) == (200, "ok\n")


def test_page_never_answers_other_machines_unprotected(data_dir, tmp_path):
    def allowed(**web) -> bool:
        return refusal(page_settings(data_dir, **web)) is None

    def refusal(settings) -> str | None:
        try:
            check_binding(settings)
        except ConfigurationError as error:
            return str(error)
        return None

    own = {"tls_certificate": tmp_path / "c.pem", "tls_key": tmp_path / "k.pem"}
    assert allowed(host="127.0.0.1")
    assert allowed(host="::1")
    assert allowed(host="localhost")
    assert "allow_unprotected_address" in str(refusal(page_settings(data_dir, host="0.0.0.0")))
    assert not allowed(host="10.0.0.5", **own)  # no users
    page = PageOfNode(Node(data_dir, lambda: 0.0), page_settings(data_dir))
    page.add_user("anna", Role.VIEWER)
    assert not allowed(host="10.0.0.5")  # no TLS
    assert allowed(host="10.0.0.5", **own)
    assert allowed(host="0.0.0.0", allow_unprotected_address=True)


def test_port_that_is_taken_is_said(data_dir):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = page_settings(data_dir, port=taken.getsockname()[1])
        with pytest.raises(ConfigurationError, match=r"set web\.host and web\.port"):
            with serving_page(settings):
                pass


def test_certificate_that_is_none_is_said(data_dir, tmp_path):
    (tmp_path / "c.pem").write_text("no certificate")
    settings = page_settings(data_dir, tls_certificate=tmp_path / "c.pem", tls_key=tmp_path / "c.pem")
    with pytest.raises(ConfigurationError, match="certificate"):
        with serving_page(settings):
            pass


def test_secret_of_sessions_stays_over_restarts(data_dir):
    settings = page_settings(data_dir)
    assert page_secret(settings) == page_secret(settings)
    assert (data_dir / "web.secret").stat().st_mode & 0o077 == 0
