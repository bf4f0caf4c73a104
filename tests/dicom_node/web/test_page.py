"""The operator's page: what it shows, what people may do on it, and who gets in."""

from __future__ import annotations

import json
import re

import pytest

from dicom_node.audit.decisions import Decisions
from dicom_node.audit.events import AuditEvents, EventKind
from dicom_node.observation.heartbeats import Heartbeats
from dicom_node.web.protection import HEADERS
from dicom_node.web.users import Role, Users
from tests.builders.nodes import Node
from tests.builders.operated import OperatedNode
from tests.builders.pages import PASSWORD, PageOfNode, form_token, log_in, page_settings


@pytest.fixture
def operated(tmp_path, clock) -> OperatedNode:
    return OperatedNode(Node(tmp_path / "data", clock), clock)


@pytest.fixture
def page(operated) -> PageOfNode:
    return PageOfNode(operated.node, page_settings(operated.node.data_dir))


def _events(page: PageOfNode, kind: EventKind) -> list:
    found = AuditEvents(page.node.database, page.node.clock).after(0, 1000)
    return [e.event for e in found if e.event.kind is kind]


# ------------------------------------------------------------------ what is shown


def test_list_shows_state_reason_rule_and_progress(operated, page):
    operated.refused("a", "There is no liver segmentation in the study.")
    operated.running("b", "generating month 3 of tace", 0.42)
    text = page.logged_in("anna").get("/").text
    assert "There is no liver segmentation in the study." in text
    assert "REFUSED" in text
    assert "RUNNING" in text
    assert "42 % generating month 3 of tace" in text
    assert "<td>ct</td>" in text  # the rule


def test_list_can_be_filtered_by_state_group_and_uid(operated, page):
    refused, failed = operated.refused("a"), operated.failed("b")
    client = page.logged_in("anna")

    def shown(query: str) -> set[int]:
        return {int(n) for n in re.findall(r'href="/studies/(\d+)"', client.get(f"/?{query}").text)}

    uid = operated.node.ledger.revision(failed).study_instance_uid
    assert shown("state=FAILED") == {failed}
    assert shown("group=attention") == {refused, failed}
    assert shown("group=ended") == set()
    assert shown(f"uid={uid[-12:]}") == {failed}
    assert shown("uid=%25&state=NONSENSE&page=-3") == {refused, failed}  # what makes no sense is left out


def test_list_has_pages(operated, page):
    for number in range(7):
        operated.study(str(number))
    operated.node.assembler.step()
    short = PageOfNode(operated.node, page_settings(operated.node.data_dir, studies_per_page=5))
    client = short.logged_in("anna")
    first, second = client.get("/").text, client.get("/?page=2").text
    assert "Page 1 of 2, 7 revisions" in first
    assert "Page 2 of 2, 7 revisions" in second
    assert len(re.findall(r'href="/studies/\d+"', first)) == 5
    assert len(re.findall(r'href="/studies/\d+"', second)) == 2
    assert "Page 2 of 2" in client.get("/?page=99").text


def test_refreshing_can_be_held_still(operated, page):
    client = page.logged_in("anna")
    assert '<meta http-equiv="refresh" content="10">' in client.get("/").text
    assert "http-equiv" not in client.get("/?refresh=off").text


def test_study_shows_timeline_objects_and_forecast(operated, page):
    revision = operated.delivered("a")
    text = page.logged_in("anna").get(f"/studies/{revision}").text
    for event in ("opened", "study complete", "rule forecasts", "job done", "all objects verified"):
        assert event in text
    assert text.count("VERIFIED") == 5  # one for each result object
    assert "committed, and read back equal" in text
    assert "71 %" in text
    assert "22.4" in text
    assert "forecast locked" in text


def test_no_patient_and_no_accession_number_is_on_any_page(operated, page):
    revision = operated.delivered("a")
    client = page.logged_in("anna")
    for path in ("/", f"/studies/{revision}", "/node", "/metrics", "/readyz"):
        text = client.get(path).text
        assert "Test^Patient" not in text
        assert "T1" not in re.findall(r"\w+", text)
        assert "19500101" not in text


def test_reasons_are_escaped(operated, page):
    operated.refused("a", "<script>alert(1)</script>")
    text = page.logged_in("anna").get("/").text
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


def test_unknown_revision_is_said_to_be_unknown(page):
    answer = page.logged_in("anna").get("/studies/4711")
    assert answer.status_code == 409
    assert "there is no revision 4711" in answer.text


def test_node_page_shows_conditions_and_bundles(operated, page, clock):
    Heartbeats(operated.node.database, clock).beat("worker", "machine-7", 12)
    text = page.logged_in("anna").get("/node").text
    assert "machine-7:12" in text
    assert "no sign of life" in text  # of the listener
    assert "survival" in text


# ------------------------------------------------------------------ what is done


def test_retry_and_cancel_are_the_ledgers_own_and_audited(operated, page):
    refused, queued = operated.refused("a"), operated.queued("b")
    client = page.logged_in("anna")
    token = form_token(client)
    answer = client.post(f"/studies/{refused}/retry", data={"token": token, "reason": "outlines came"})
    assert (answer.status_code, answer.headers["location"]) == (303, f"/studies/{refused}")
    assert client.post(f"/studies/{queued}/cancel", data={"token": token}).status_code == 303
    ledger = operated.node.ledger
    assert str(ledger.revision(refused).state) == "COMPLETE"
    assert str(ledger.revision(queued).state) == "CANCELLED"
    assert operated.node.engine.status([ledger.revision(queued).job_key])[0].state == "cancelled"
    told = _events(page, EventKind.ACTION)
    assert [(e.user, e.detail["action"]) for e in told] == [("anna", "retry"), ("anna", "cancel")]
    assert told[0].detail["reason"] == "outlines came"


def test_review_is_released_or_rejected(operated, page):
    first, second = operated.in_review("a"), operated.in_review("b")
    client = page.logged_in("anna", Role.CLINICIAN)
    token = form_token(client)
    client.post(f"/studies/{first}/release", data={"token": token})
    client.post(f"/studies/{second}/reject", data={"token": token, "reason": "the vein is outlined"})
    assert str(operated.node.ledger.revision(first).state) == "QUEUED"
    rejected = operated.node.ledger.revision(second)
    assert str(rejected.state) == "REFUSED"
    assert rejected.reason.endswith("the vein is outlined")


def test_what_makes_no_sense_is_refused_with_its_reason(operated, page):
    revision = operated.delivered("a")
    client = page.logged_in("anna")
    answer = client.post(f"/studies/{revision}/retry", data={"token": form_token(client)})
    assert answer.status_code == 409
    assert "DELIVERED cannot be" in answer.text
    assert _events(page, EventKind.ACTION) == []


@pytest.mark.parametrize(
    ("role", "action", "status"),
    [
        (Role.VIEWER, "retry", 403),
        (Role.VIEWER, "decide", 403),
        (Role.CLINICIAN, "retry", 403),
        (Role.OPERATOR, "retry", 303),
        (Role.OPERATOR, "nonsense", 404),
    ],
)
def test_roles_bound_what_may_be_done(operated, page, role, action, status):
    revision = operated.refused("a")
    client = page.logged_in("bert", role)
    answer = client.post(f"/studies/{revision}/{action}", data={"token": form_token(client)})
    assert answer.status_code == status
    expected = "COMPLETE" if status == 303 else "REFUSED"
    assert str(operated.node.ledger.revision(revision).state) == expected


def test_viewer_is_offered_nothing(operated, page):
    revision = operated.refused("a")
    text = page.logged_in("bert", Role.VIEWER).get(f"/studies/{revision}").text
    assert "Try again" not in text
    assert "your role looks on" in text


def test_decision_is_kept_with_the_digest_of_its_forecast(operated, page):
    revision = operated.delivered("a")
    client = page.logged_in("dr.lee", Role.CLINICIAN)
    form = {
        "token": form_token(client),
        "verdict": "override",
        "regimen": "sorafenib",
        "reason": "portal vein thrombosis",
    }
    assert client.post(f"/studies/{revision}/decide", data=form).status_code == 303
    (made,) = Decisions(operated.node.database, operated.clock).all(revision)
    assert (made.user, str(made.verdict), made.regimen) == ("dr.lee", "override", "sorafenib")
    assert made.recommended == "tace"
    assert len(made.forecast_digest) == 64
    text = client.get(f"/studies/{revision}").text
    assert "portal vein thrombosis" in text
    assert made.forecast_digest in text


# ------------------------------------------------------------------ who gets in


def test_nobody_sees_anything_without_login(operated, page):
    revision = operated.refused("a")
    client = page.client()
    for path in ("/", f"/studies/{revision}", "/node"):
        answer = client.get(path)
        assert (answer.status_code, answer.headers["location"]) == (303, "/login")
        assert "REFUSED" not in answer.text
    assert client.post(f"/studies/{revision}/retry").status_code == 303
    assert str(operated.node.ledger.revision(revision).state) == "REFUSED"


def test_login_says_how_to_make_the_first_user(page):
    assert "hepatocast web add-user" in page.client().get("/login").text


def test_session_cookie_is_out_of_reach_of_scripts_and_other_sites(page):
    page.add_user("anna", Role.VIEWER)
    cookies = log_in(page.client(), "anna", PASSWORD).headers.get_list("set-cookie")
    session = next(c for c in cookies if c.startswith("hepatocast="))
    assert "HttpOnly" in session
    assert "samesite=strict" in session.lower()


def test_session_cookie_is_secure_under_tls(operated, tmp_path):
    settings = page_settings(
        operated.node.data_dir, tls_certificate=tmp_path / "c.pem", tls_key=tmp_path / "k.pem"
    )
    page = PageOfNode(operated.node, settings)
    page.add_user("anna", Role.VIEWER)
    client = page.client()
    client.base_url = "https://localhost:8117"
    answer = log_in(client, "anna", PASSWORD)
    session = next(c for c in answer.headers.get_list("set-cookie") if c.startswith("__Host-hepatocast="))
    assert "Secure" in session
    assert "Path=/" in session
    assert answer.headers["strict-transport-security"] == "max-age=31536000"


@pytest.mark.parametrize("cookie", ["", "nonsense", "eyJ1c2VyIjoiYW5uYSJ9.aaaaaa.bbbb"])
def test_forged_sessions_are_worth_nothing(page, cookie):
    page.add_user("anna", Role.OPERATOR)
    client = page.client()
    client.cookies.set("hepatocast", cookie)
    assert client.get("/").status_code == 303


def test_session_ends_with_logout_even_for_a_copied_cookie(page):
    client = page.logged_in("anna")
    copied = client.cookies["hepatocast"]
    client.post("/logout", data={"token": form_token(client)})
    thief = page.client()
    thief.cookies.set("hepatocast", copied)
    assert thief.get("/").status_code == 303
    assert [e.user for e in _events(page, EventKind.LOGOUT)] == ["anna"]


def test_session_ends_with_its_time_with_another_password_and_with_the_user(page, clock):
    late, changed, gone = (page.logged_in(name) for name in ("late", "changed", "gone"))
    users = Users(page.settings.web.users(page.settings.data_dir))
    assert [c.get("/").status_code for c in (late, changed, gone)] == [200, 200, 200]
    users.put("changed", Role.OPERATOR, "another long password")
    users.remove("gone")
    assert [c.get("/").status_code for c in (late, changed, gone)] == [200, 303, 303]
    clock.advance(8 * 3600)
    assert late.get("/").status_code == 303


def test_role_of_a_session_is_that_of_the_file(operated, page):
    revision = operated.refused("a")
    client = page.logged_in("anna", Role.OPERATOR)
    token = form_token(client)
    file = page.settings.web.users(page.settings.data_dir)
    rows = json.loads(file.read_text())
    file.write_text(json.dumps([{**rows[0], "role": "viewer"}]))
    assert client.post(f"/studies/{revision}/retry", data={"token": token}).status_code == 403


@pytest.mark.parametrize("token", ["", "0" * 64, None])
def test_forms_need_the_token_of_their_session(operated, page, token):
    revision = operated.refused("a")
    client = page.logged_in("anna")
    data = {} if token is None else {"token": token}
    assert client.post(f"/studies/{revision}/retry", data=data).status_code == 403
    other = page.logged_in("bert")
    stolen = form_token(other)
    assert client.post(f"/studies/{revision}/retry", data={"token": stolen}).status_code == 403
    assert str(operated.node.ledger.revision(revision).state) == "REFUSED"


@pytest.mark.parametrize(
    "headers", [{"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}]
)
def test_forms_from_elsewhere_are_refused(operated, page, headers):
    revision = operated.refused("a")
    client = page.logged_in("anna")
    answer = client.post(f"/studies/{revision}/retry", data={"token": form_token(client)}, headers=headers)
    assert answer.status_code == 403


def test_login_needs_its_own_form(page):
    page.add_user("anna", Role.VIEWER)
    client = page.client()
    answer = client.post("/login", data={"name": "anna", "password": PASSWORD})
    assert answer.status_code == 403
    assert "hepatocast" not in client.cookies


def test_guessing_is_slowed_down_by_name_and_by_address(page, clock):
    page.add_user("anna", Role.VIEWER)
    guesser = page.client("127.0.0.9")
    for _ in range(5):
        assert log_in(guesser, "anna", "wrong password").status_code == 403
    assert log_in(guesser, "anna", PASSWORD).status_code == 429  # the right one too
    assert log_in(guesser, "bert", "wrong password").status_code == 429  # the address
    assert log_in(page.client("127.0.0.8"), "anna", PASSWORD).status_code == 429  # the name
    clock.advance(60)
    assert log_in(page.client("127.0.0.8"), "anna", PASSWORD).status_code == 303


def test_failed_logins_are_in_the_audit_trail_without_what_was_typed(page):
    page.add_user("anna", Role.VIEWER)
    client = page.client()
    log_in(client, "anna", "wrong password")
    log_in(client, "my-secret-typed-as-a-name", "wrong password")
    told = _events(page, EventKind.LOGIN)
    assert [e.failed for e in told] == ["wrong password for anna", "wrong password for unknown name"]
    assert "my-secret" not in repr(told)


# ------------------------------------------------------------------ what is around it


@pytest.mark.parametrize("path", ["/login", "/static/style.css", "/nowhere", "/healthz"])
def test_every_answer_has_the_headers(page, path):
    answer = page.client().get(path)
    for name, value in HEADERS:
        assert answer.headers[name] == value


def test_pages_have_no_script_and_no_inline_style(operated, page):
    revision = operated.delivered("a")
    client = page.logged_in("anna")
    for path in ("/", f"/studies/{revision}", "/node", "/login"):
        text = (page.client() if path == "/login" else client).get(path).text
        assert "<html" in text
        assert "<script" not in text
        assert " style=" not in text
        assert not re.findall(r'(?:src|href)="(?!/)', text.replace('href="#main"', ""))  # nothing from afar


def test_every_field_has_a_label_and_every_table_a_caption(operated, page):
    done, review = operated.delivered("a"), operated.in_review("b")
    client = page.logged_in("anna")
    for path in ("/", f"/studies/{done}", f"/studies/{review}", "/node", "/login"):
        text = (page.client() if path == "/login" else client).get(path).text
        labels = set(re.findall(r'<label for="([^"]+)"', text))
        fields = re.findall(r"<(?:input|select|textarea)\b[^>]*>", text)
        for field in fields:
            if 'type="hidden"' in field or 'type="radio"' in field:
                continue
            identity = re.search(r'id="([^"]+)"', field)
            assert identity, field
            assert identity.group(1) in labels, field
        assert text.count("<table") == text.count("<caption")
        assert '<html lang="en">' in text


def test_long_bodies_are_refused(page):
    page.add_user("anna", Role.VIEWER)
    client = page.client()
    answer = client.post("/login", data={"name": "anna", "password": "x" * 100_000})
    assert answer.status_code == 413


def test_foreign_names_of_this_machine_get_nothing(page):
    client = page.client()
    assert client.get("/login", headers={"host": "evil.example"}).status_code == 421
    assert client.get("/metrics", headers={"host": "evil.example:8117"}).status_code == 421
    assert client.get("/login", headers={"host": "[::1]:8117"}).status_code == 200


def test_status_is_for_its_addresses_only(page):
    for path in ("/healthz", "/readyz", "/metrics"):
        assert page.client("10.1.2.3").get(path).status_code == 403
        assert page.client("::ffff:127.0.0.1").get(path).status_code != 403
    assert page.client().get("/healthz").text == "ok\n"


def test_ready_only_when_everything_is_there(page, clock):
    client = page.client()
    answer = client.get("/readyz")
    assert answer.status_code == 503
    lacking = {c["name"] for c in answer.json()["conditions"] if not c["holds"]}
    assert lacking == {"listener", "steward", "worker", "listener port"}
    beats = Heartbeats(page.node.database, clock)
    for role in ("listener", "steward", "worker"):
        beats.beat(role, "elsewhere", 1)
    clock.advance(6)  # what was found is remembered for a few seconds
    answer = client.get("/readyz")
    assert answer.status_code == 200, answer.text
    clock.advance(31)
    assert client.get("/readyz").status_code == 503  # no sign of life any more
