"""The operator's page: routes, and what each of them shows or does."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from dicom_node.audit.decisions import Verdict
from dicom_node.audit.events import AuditEvent, AuditEvents, EventKind, Repeated
from dicom_node.bundles.activation import Activations
from dicom_node.errors import NodeError
from dicom_node.jobs.engine import Engine
from dicom_node.jobs.ledger import Ledger
from dicom_node.jobs.states import Revision
from dicom_node.observation.alerts import Alerts
from dicom_node.observation.health import Health, Remembered
from dicom_node.observation.heartbeats import Heartbeats
from dicom_node.observation.metrics import CONTENT_TYPE, NodeCollector, exposition
from dicom_node.settings import NodeSettings
from dicom_node.web.actions import Actions, Forbidden, possible
from dicom_node.web.protection import Protection, TooLarge, client_address, is_allowed, is_same_origin
from dicom_node.web.queries import GROUPS, Filter, Queries
from dicom_node.web.rendering import FOLDER, Renderer
from dicom_node.web.sessions import Brake, Session, Sessions
from dicom_node.web.users import Right, Users

_log = logging.getLogger(__name__)

WRONG_LOGIN = "The name or the password is wrong."
Handler = Callable[[Request, Session], Response]
FormHandler = Callable[[Request, Session, Mapping[str, str]], Response]
Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass
class OperatorPage:
    """The page of one node."""

    settings: NodeSettings
    ledger: Ledger
    engine: Engine
    secret: str
    health: Health
    render: Renderer = field(default_factory=Renderer)

    def __post_init__(self) -> None:
        """Wire what the handlers need."""
        web, clock = self.settings.web, self.ledger.clock
        self.users = Users(web.users(self.settings.data_dir))
        self.sessions = Sessions(self.secret, self.users, clock, 3600 * web.session_hours)
        self.brake = Brake(web.login_attempts, web.login_pause_s, clock)
        self.queries = Queries(self.ledger, self.engine)
        self.actions = Actions(self.ledger, self.engine)
        self.events = AuditEvents(self.ledger.database, clock)
        self.guesses = Repeated(self.events)
        self.conditions = Remembered(self.health.conditions, clock)
        self.collector = NodeCollector(self.settings, self.ledger.database, clock, self.health.free)
        prefix = "__Host-" if web.uses_tls else ""
        self.session_cookie, self.login_cookie = f"{prefix}hepatocast", f"{prefix}hepatocast-login"

    def app(self) -> ASGIApp:
        """Return the application, with its protection around everything."""
        web = self.settings.web
        routes = [
            Route("/", self._seen(self.studies)),
            Route("/studies/{revision:int}", self._seen(self.study)),
            Route("/studies/{revision:int}/{action}", self._done(self.act), methods=["POST"]),
            Route("/node", self._seen(self.node)),
            Route("/login", self.login_form, methods=["GET"]),
            Route("/login", self.login, methods=["POST"]),
            Route("/logout", self._done(self.logout), methods=["POST"]),
            Route("/healthz", self._status(self.healthz)),
            Route("/readyz", self._status(self.readyz)),
            Route("/metrics", self._status(self.metrics)),
            Mount("/static", StaticFiles(directory=FOLDER / "static")),
        ]
        handlers: dict[Any, Any] = {
            HTTPException: self.http_error,
            TooLarge: self.too_large,
            NodeError: self.server_error,
            SQLAlchemyError: self.server_error,
            Exception: self.server_error,
        }
        inner = Starlette(routes=routes, exception_handlers=handlers)
        return Protection(inner, uses_tls=web.uses_tls, only_loopback_names=web.is_loopback)

    # -------------------------------------------------------------- who asks

    def _session(self, request: Request) -> Session | None:
        return self.sessions.read(request.cookies.get(self.session_cookie, ""))

    def _seen(self, handler: Handler) -> Endpoint:
        """Return an endpoint for who is logged in; others are led to the login."""

        async def endpoint(request: Request) -> Response:
            session = await run_in_threadpool(self._session, request)
            if session is None:
                return RedirectResponse("/login", HTTPStatus.SEE_OTHER)
            return await run_in_threadpool(handler, request, session)

        return endpoint

    def _done(self, handler: FormHandler) -> Endpoint:
        """Return an endpoint for a form of who is logged in, made by this page for this session."""

        async def endpoint(request: Request) -> Response:
            session = await run_in_threadpool(self._session, request)
            if session is None:
                return RedirectResponse("/login", HTTPStatus.SEE_OTHER)
            form = await _form(request)
            token = form.get("token", "")
            if not is_same_origin(request) or not self.sessions.form_matches(session.token, token):
                raise HTTPException(HTTPStatus.FORBIDDEN, "The form is not of this session. Load it again.")
            return await run_in_threadpool(handler, request, session, form)

        return endpoint

    def _status(self, handler: Callable[[], Response]) -> Endpoint:
        """Return an endpoint without login, for the configured addresses."""
        networks = self.settings.web.status_networks

        async def endpoint(request: Request) -> Response:
            if not is_allowed(client_address(request), networks):
                return PlainTextResponse("not for this address\n", HTTPStatus.FORBIDDEN)
            return await run_in_threadpool(handler)

        return endpoint

    def _page(
        self, name: str, session: Session | None, status: int = HTTPStatus.OK, **values: Any
    ) -> Response:
        token = self.sessions.form_token(session.token) if session else ""
        user = session.user if session else None
        common = {"user": user, "token": token, "now": self.ledger.clock(), "refresh_s": 0}
        common["qualification"] = self.settings.content_qualification
        return HTMLResponse(self.render(name, **{**common, **values}), status)

    # -------------------------------------------------------------- login

    def login_form(self, request: Request) -> Response:
        """Show the login."""
        if self._session(request) is not None:
            return RedirectResponse("/", HTTPStatus.SEE_OTHER)
        return self._login_page("")

    def _login_page(self, problem: str, status: int = HTTPStatus.OK) -> Response:
        token = secrets.token_urlsafe(24)
        answer = self._page(
            "login",
            None,
            status,
            problem=problem,
            has_users=bool(self.users.all()),
            form_token=self.sessions.form_token(token),
        )
        self._set_cookie(answer, self.login_cookie, token, 3600)
        return answer

    def _set_cookie(self, answer: Response, name: str, value: str, seconds: float) -> None:
        answer.set_cookie(
            name,
            value,
            max_age=int(seconds),
            httponly=True,
            samesite="strict",
            secure=self.settings.web.uses_tls,
        )

    async def login(self, request: Request) -> Response:
        """Try a password."""
        form = await _form(request)
        held = request.cookies.get(self.login_cookie, "")
        if not is_same_origin(request) or not self.sessions.form_matches(held, form.get("token", "")):
            return await run_in_threadpool(
                self._login_page, "The form was too old. Try again.", HTTPStatus.FORBIDDEN
            )
        return await run_in_threadpool(self._try_login, client_address(request), form)

    def _try_login(self, address: str, form: Mapping[str, str]) -> Response:
        name = form.get("name", "")[:64]
        keys = (f"name {name}", f"address {address}")
        wait = self.brake.wait_s(*keys)
        if wait > 0:
            self.guesses.note(EventKind.PASSWORDS_GUESSED, address, "too many wrong passwords")
            answer = self._login_page(
                f"Too many wrong passwords. Try again in {wait:.0f} s.", HTTPStatus.TOO_MANY_REQUESTS
            )
            answer.headers["Retry-After"] = str(int(wait) + 1)
            return answer
        user = self.users.authenticate(name, form.get("password", ""))
        if user is None:
            self.brake.wrong(*keys)
            # A name that was typed may be a password; only names that exist go into the trail.
            known = name if name in self.users.all() else "unknown name"
            self.guesses.note(EventKind.LOGIN, address, f"wrong password for {known}")
            return self._login_page(WRONG_LOGIN, HTTPStatus.FORBIDDEN)
        self.brake.right(*keys)
        self.events.record(AuditEvent(EventKind.LOGIN, user.name, address))
        answer = RedirectResponse("/", HTTPStatus.SEE_OTHER)
        self._set_cookie(
            answer, self.session_cookie, self.sessions.begin(user), 3600 * self.settings.web.session_hours
        )
        answer.delete_cookie(self.login_cookie, secure=self.settings.web.uses_tls, samesite="strict")
        return answer

    def logout(self, request: Request, session: Session, _form: Mapping[str, str]) -> Response:
        """End the session."""
        self.sessions.end(session)
        self.events.record(AuditEvent(EventKind.LOGOUT, session.user.name, client_address(request)))
        answer = RedirectResponse("/login", HTTPStatus.SEE_OTHER)
        answer.delete_cookie(self.session_cookie, secure=self.settings.web.uses_tls, samesite="strict")
        return answer

    # -------------------------------------------------------------- what is shown

    def studies(self, request: Request, session: Session) -> Response:
        """List studies."""
        asked = {key: request.query_params.get(key, "") for key in ("group", "state", "uid", "page")}
        wanted = Filter.of(asked["group"], asked["state"], asked["uid"], asked["page"])
        counts = self.queries.counts()
        still = request.query_params.get("refresh") == "off"
        return self._page(
            "studies",
            session,
            page=self.queries.page(wanted, self.settings.web.studies_per_page),
            wanted=wanted,
            group=asked["group"] if asked["group"] in GROUPS else "",
            state=asked["state"] if asked["state"] in Revision.__members__ else "",
            uid=wanted.uid_part,
            group_counts={name: sum(counts.get(s, 0) for s in states) for name, states in GROUPS.items()},
            counts=counts,
            states=list(Revision),
            alerts=Alerts(self.ledger.database, self.ledger.clock).standing(),
            refresh="off" if still else "",
            refresh_s=0 if still else self.settings.web.refresh_s,
        )

    def study(self, request: Request, session: Session) -> Response:
        """Show one revision of a study."""
        view = self.queries.study(int(request.path_params["revision"]))
        row = view.listed.row
        rights = [r for r in possible(row.state) if session.user.may(r)]
        if view.removed_at is not None and row.changed_at <= view.removed_at:
            rights = [r for r in rights if r is not Right.RETRY]  # its images are gone
        working = row.state in GROUPS["work"] and request.query_params.get("refresh") != "off"
        return self._page(
            "study",
            session,
            view=view,
            row=row,
            rights=rights,
            verdicts=list(Verdict),
            may_decide=view.forecast is not None and session.user.may(Right.DECIDE),
            refresh_s=self.settings.web.refresh_s if working else 0,
        )

    def node(self, request: Request, session: Session) -> Response:
        """Show the node: its health, processes, outbox, bundles and alerts."""
        database, clock = self.ledger.database, self.ledger.clock
        activations = Activations(database, self.settings.data_dir, clock)
        still = request.query_params.get("refresh") == "off"
        return self._page(
            "node",
            session,
            conditions=self.conditions(),
            beats=Heartbeats(database, clock).all(),
            peers=self.queries.outbox([p.name for p in self.settings.peers]),
            bundles={str(k): v for k, v in activations.named_in_force().items()},
            alerts=Alerts(database, clock).standing(),
            refresh="off" if still else "",
            refresh_s=0 if still else self.settings.web.refresh_s,
        )

    # -------------------------------------------------------------- what is done

    def act(self, request: Request, session: Session, form: Mapping[str, str]) -> Response:
        """Do what a form asks for, and show the study again."""
        revision_id, name = int(request.path_params["revision"]), request.path_params["action"]
        if name not in [str(r) for r in Right]:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        self.actions.do(Right(name), revision_id, session.user, form)
        return RedirectResponse(f"/studies/{revision_id}", HTTPStatus.SEE_OTHER)

    # -------------------------------------------------------------- status

    def healthz(self) -> Response:
        """Say that this process lives."""
        return PlainTextResponse("ok\n")

    def readyz(self) -> Response:
        """Say whether the node can do its work, with each condition."""
        found = self.conditions()
        ready = all(c.holds for c in found)
        content = {
            "ready": ready,
            "conditions": [{"name": c.name, "holds": c.holds, "detail": c.detail} for c in found],
        }
        return JSONResponse(content, HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE)

    def metrics(self) -> Response:
        """Return the metrics."""
        return Response(exposition(self.collector), media_type=CONTENT_TYPE)

    # -------------------------------------------------------------- errors

    def http_error(self, request: Request, error: Exception) -> Response:
        """Say what was wrong with a request."""
        status = error.status_code if isinstance(error, HTTPException) else HTTPStatus.BAD_REQUEST
        text = error.detail if isinstance(error, HTTPException) else ""
        return self._problem(request, status, text)

    def too_large(self, request: Request, _error: Exception) -> Response:
        """Refuse a body that is longer than any form of the page."""
        return self._problem(request, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The request is too large.")

    def server_error(self, request: Request, error: Exception) -> Response:
        """Say what went wrong; the node's own errors are for people, others are not shown."""
        if isinstance(error, Forbidden):
            return self._problem(request, HTTPStatus.FORBIDDEN, str(error))
        if isinstance(error, NodeError):
            return self._problem(request, HTTPStatus.CONFLICT, str(error))
        if isinstance(error, SQLAlchemyError):
            return self._problem(request, HTTPStatus.SERVICE_UNAVAILABLE, "The database does not answer.")
        return self._problem(request, HTTPStatus.INTERNAL_SERVER_ERROR, "An internal error; see the log.")

    def _problem(self, request: Request, status: int, text: str) -> Response:
        try:
            session = self._session(request)
        except NodeError:
            session = None
        title = HTTPStatus(status).phrase
        return self._page("problem", session, status, title=title, text=text or title)


async def _form(request: Request) -> dict[str, str]:
    form = await request.form(max_files=0, max_fields=20)
    return {key: value for key, value in form.items() if isinstance(value, str)}
