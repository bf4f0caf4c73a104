"""Alerts: each condition is told once, and again after it has cleared; by real mail and web servers."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from dicom_node.errors import TransientError
from dicom_node.jobs.states import ObjectEvent, RevisionEvent
from dicom_node.observation.alerts import CONDITIONS, Alerts, AlertService, Looked, PeerWatch
from dicom_node.observation.channels import Mail, Message, Notice, Webhook, channels
from dicom_node.observation.heartbeats import Heartbeats
from dicom_node.operation_settings import AlertSettings, MailSettings, SecretSource, WebhookSettings
from tests.builders.nodes import Node
from tests.builders.operated import OperatedNode
from tests.builders.pages import page_settings
from tests.builders.tls import Authority


class Kept:
    """A channel that keeps what it is given, or fails."""

    name = "kept"

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.away = False

    def send(self, message: Message) -> None:
        if self.away:
            raise TransientError("away")
        self.messages.append(message)

    def told(self) -> list[tuple[list[str], list[str]]]:
        return [([n.condition for n in m.raised], [n.condition for n in m.cleared]) for m in self.messages]


class Watched:
    """A node that is well, its alert service, and what can be broken."""

    def __init__(self, tmp_path, clock, **alerts: Any) -> None:
        self.clock, self.free, self.peer_answers = clock, 10**12, True
        self.operated = OperatedNode(Node(tmp_path / "data", clock), clock)
        settings = page_settings(tmp_path / "data")
        listener = settings.listener.model_copy(update={"minimum_free_bytes": 10**9})
        alerts = AlertSettings(role_lost_s=60, **alerts)
        self.settings = settings.model_copy(update={"listener": listener, "alerts": alerts})
        database = self.operated.node.database
        self.beats = Heartbeats(database, clock)
        self.channel = Kept()
        watch = PeerWatch(self.settings, clock, self._echo)
        looked = Looked(self.settings, database, clock, watch, lambda _: self.free)
        self.service = AlertService(looked, (self.channel,))
        self.alive = {"listener", "worker"}

    def _echo(self, _peer, _ours) -> None:
        if not self.peer_answers:
            raise TransientError("no answer")

    def step(self, seconds: float = 0.0) -> list:
        """Let time pass and look; returns what was told since the last time."""
        self.clock.advance(seconds)
        for role in self.alive:
            self.beats.beat(role, "m", 1)
        before = len(self.channel.messages)
        self.service.step()
        return self.channel.told()[before:]


@pytest.fixture
def watched(tmp_path, clock) -> Watched:
    return Watched(tmp_path, clock)


def test_nothing_is_told_of_a_node_that_is_well(watched):
    assert watched.step() == []
    assert watched.step(3600) == []


def _disk(w: Watched, broken: bool) -> None:
    w.free = 1 if broken else 10**12


def _listener(w: Watched, broken: bool) -> None:
    w.alive = {"worker"} if broken else {"listener", "worker"}


def _worker(w: Watched, broken: bool) -> None:
    w.alive = {"listener"} if broken else {"listener", "worker"}


def _peer(w: Watched, broken: bool) -> None:
    w.peer_answers = not broken


def _outbox(w: Watched, broken: bool) -> None:
    ledger = w.operated.node.ledger
    if broken:
        w.operated.forecast(f"outbox {w.clock.now}")
    for row in () if broken else ledger.revisions():
        if str(row.state) == "DONE":
            with_objects = w.operated.object_ids(row.id)
            ledger.change_objects(with_objects, ObjectEvent.REJECTED_BY_PEER, "no")


def _queue(w: Watched, broken: bool) -> None:
    ledger = w.operated.node.ledger
    if broken:
        w.operated.queued(f"queue {w.clock.now}")
    for row in () if broken else ledger.revisions():
        if str(row.state) == "QUEUED":
            ledger.change(row.id, RevisionEvent.CANCEL)


def _failures(w: Watched, broken: bool) -> None:
    for number in range(3 if broken else 1):
        name = f"failure {w.clock.now} {number}"
        revision = w.operated.failed(name) if broken else w.operated.forecast(name)
        if not broken:
            w.operated.node.ledger.change_objects(
                w.operated.object_ids(revision), ObjectEvent.REJECTED_BY_PEER, "no"
            )


BREAKAGES = {
    "disk": _disk,
    "listener": _listener,
    "worker": _worker,
    "peer": _peer,
    "outbox": _outbox,
    "queue": _queue,
    "failures": _failures,
}


def test_every_condition_is_tested():
    assert set(BREAKAGES) == {name for name, _ in CONDITIONS}


@pytest.mark.parametrize("name", BREAKAGES)
def test_each_condition_is_told_once_and_again_after_it_has_cleared(watched, name):
    watched.step()
    for _ in range(2):
        BREAKAGES[name](watched, True)
        told = watched.step(61) + watched.step(4000)  # longer than any patience
        assert [raised for raised, _ in told] == [[name]] or told == [([name, name], [])]
        assert watched.step(100) == []
        assert watched.step(100) == []
        BREAKAGES[name](watched, False)
        told = watched.step(100)
        assert [(raised, set(cleared)) for raised, cleared in told] == [([], {name})]
        assert watched.step(100) == []


def test_restart_tells_nobody_twice(watched):
    watched.free = 1
    assert watched.step() == [(["disk"], [])]
    watched.service = AlertService(watched.service.looked, (watched.channel,))
    assert watched.step(60) == []


def test_what_did_not_go_out_is_tried_again(watched):
    watched.free, watched.channel.away = 1, True
    assert watched.step() == []
    watched.channel.away = False
    assert watched.step(30) == []  # not at once
    assert watched.step(31) == [(["disk"], [])]


def test_messages_are_limited_and_put_together(tmp_path, clock):
    watched = Watched(tmp_path, clock, maximum_per_hour=2)
    for _ in range(3):
        watched.free = 1
        watched.step(10)
        watched.free = 10**12
        watched.step(10)
    assert len(watched.channel.messages) == 2
    watched.free, watched.alive = 1, set()
    watched.step(100)
    assert len(watched.channel.messages) == 2
    (raised, _), *more = watched.step(3600)
    assert more == []
    assert {"disk", "listener", "worker"} <= set(raised)


def test_worker_that_was_replaced_is_no_alert(watched):
    watched.step()
    watched.beats.beat("worker", "m", 2)
    watched.clock.advance(5)
    watched.beats.beat("worker", "m", 3)  # in place of 2, which was killed
    for _ in range(20):
        watched.clock.advance(10)
        watched.beats.beat("worker", "m", 3)
        watched.step()
    assert watched.channel.told() == []


def test_worker_that_vanished_on_another_machine_is_told(watched):
    watched.beats.beat("worker", "far", 9)
    watched.step(61)
    (message,) = watched.channel.messages
    assert message.raised[0].subject == "worker@far:9"
    assert [n.subject for n in Alerts(watched.operated.node.database, watched.clock).standing()] == [
        "worker@far:9"
    ]


# ------------------------------------------------------------------ channels

NOTICE = Notice("disk", "", "only 1.0 GB are free", 1_800_000_000.0)
MESSAGE = Message("hepatocast", (NOTICE,), ())


class _Inbox:
    def __init__(self) -> None:
        self.mails: list[Any] = []
        self.logins: list[tuple[str, str]] = []

    async def handle_DATA(self, _server, _session, envelope) -> str:
        self.mails.append(envelope)
        return "250 OK"


@contextmanager
def _smtp(inbox: _Inbox, context: ssl.SSLContext | None = None) -> Iterator[int]:
    controller_module = pytest.importorskip("aiosmtpd.controller")
    smtp_module = pytest.importorskip("aiosmtpd.smtp")

    def login(_server, _session, _envelope, _mechanism, data) -> Any:
        inbox.logins.append((data.login.decode(), data.password.decode()))
        return smtp_module.AuthResult(success=data.password == b"mail secret", handled=False)

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    controller = controller_module.Controller(
        inbox,
        hostname="127.0.0.1",
        port=port,
        tls_context=context,
        require_starttls=context is not None,
        authenticator=login,
    )
    controller.start()
    try:
        yield port
    finally:
        controller.stop()


@pytest.fixture
def authority(tmp_path) -> Authority:
    return Authority("openssl", tmp_path / "ca").create()


def _context(authority: Authority) -> ssl.SSLContext:
    own = authority.issue("127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.certificate, own.key)
    return context


def _mail(port: int, authority: Authority, password, **values: Any) -> Mail:
    return Mail(
        MailSettings(
            host="127.0.0.1",
            port=port,
            sender="node@hospital.example",
            recipients=("a@hospital.example", "b@hospital.example"),
            ca_file=authority.certificate,
            user="node",
            password=SecretSource(file=password),
            timeout_s=10,
            **values,
        )
    )


@pytest.fixture
def password(tmp_path):
    file = tmp_path / "mail.secret"
    file.write_text("mail secret\n")
    return file


def test_mail_goes_out_by_starttls_with_a_password_from_a_file(authority, password):
    inbox = _Inbox()
    with _smtp(inbox, _context(authority)) as port:
        _mail(port, authority, password).send(MESSAGE)
    (mail,) = inbox.mails
    assert mail.rcpt_tos == ["a@hospital.example", "b@hospital.example"]
    text = mail.content.decode()
    assert "Subject: [hepatocast] ALERT disk" in text
    assert "only 1.0 GB are free" in text
    assert inbox.logins == [("node", "mail secret")]


def test_mail_server_with_an_unknown_certificate_gets_no_password(authority, password, tmp_path):
    inbox = _Inbox()
    with _smtp(inbox, _context(Authority("openssl", tmp_path / "other").create())) as port:
        with pytest.raises(TransientError, match="SSLCertVerificationError"):
            _mail(port, authority, password).send(MESSAGE)
    assert (inbox.mails, inbox.logins) == ([], [])


def test_wrong_password_is_said_without_the_password(authority, tmp_path):
    wrong = tmp_path / "wrong"
    wrong.write_text("another secret")
    with _smtp(_Inbox(), _context(authority)) as port:
        with pytest.raises(TransientError) as caught:
            _mail(port, authority, wrong).send(MESSAGE)
    assert "another secret" not in str(caught.value)
    assert "535" in str(caught.value)


def test_password_without_starttls_is_no_configuration(password, authority):
    with pytest.raises(ValueError, match="starttls"):
        _mail(25, authority, password, starttls=False)


def test_mail_server_that_is_away(authority, password):
    with pytest.raises(TransientError, match="did not take it"):
        _mail(1, authority, password).send(MESSAGE)


@contextmanager
def _http(status: int, got: list[Any], location: str = "") -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((dict(self.headers), json.loads(body)))
            self.send_response(status)
            if location:
                self.send_header("Location", location)
            self.end_headers()

        def log_message(self, *_arguments: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/hook"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_webhook_gets_json_and_its_token(monkeypatch):
    monkeypatch.setenv("HOOK_TOKEN", "t0ken")
    got: list[Any] = []
    with _http(204, got) as url:
        Webhook(WebhookSettings(url=url, token=SecretSource(environment="HOOK_TOKEN"))).send(MESSAGE)
    ((headers, document),) = got
    assert headers["Authorization"] == "Bearer t0ken"
    assert document["raised"] == [
        {
            "condition": "disk",
            "subject": "",
            "text": "only 1.0 GB are free",
            "since": "2027-01-15T08:00:00+00:00",
        }
    ]


@pytest.mark.parametrize("status", [302, 404, 500])
def test_webhook_that_fails_is_tried_again_and_never_led_elsewhere(status):
    got: list[Any] = []
    elsewhere: list[Any] = []
    with _http(200, elsewhere) as other, _http(status, got, other) as url:
        with pytest.raises(TransientError, match=str(status)):
            Webhook(WebhookSettings(url=url)).send(MESSAGE)
    assert len(got) == 1
    assert elsewhere == []


def test_missing_secret_is_named_and_nothing_goes_out(monkeypatch):
    monkeypatch.delenv("HOOK_TOKEN", raising=False)
    hook = Webhook(WebhookSettings(url="http://127.0.0.1:1/", token=SecretSource(environment="HOOK_TOKEN")))
    with pytest.raises(TransientError):
        hook.send(MESSAGE)


def test_channels_are_those_of_the_configuration():
    assert channels(AlertSettings()) == ()
    hook = WebhookSettings(url="http://127.0.0.1:1/")
    assert [c.name for c in channels(AlertSettings(webhook=hook))] == ["webhook"]
