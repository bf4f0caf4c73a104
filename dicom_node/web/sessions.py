"""Sessions, tokens against forged requests, and the brake on guessing passwords.

A session is a signed cookie that names a user and a random token; the server keeps no list of them but
those that were ended. Each form carries a second token that only this server can derive from the first
The cookie is SameSite=Strict besides, and the origin of a request is looked at.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
from dataclasses import dataclass, field
from typing import Any

from itsdangerous import BadSignature, URLSafeTimedSerializer

from dicom_node.clock import Clock
from dicom_node.web.users import User, Users

MAXIMUM_REMEMBERED = 10_000
"""Names and addresses that the brake remembers; beyond it the oldest are forgotten."""


@dataclass(frozen=True, slots=True)
class Session:
    """Who is logged in; `token` is the session's own."""

    user: User
    token: str


@dataclass
class Sessions:
    """Makes and reads session cookies."""

    secret: str
    users: Users
    clock: Clock
    lifetime_s: float
    _ended: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        """Make the signer; its key is of this purpose only."""
        self._signer = URLSafeTimedSerializer(self.secret, salt="hepatocast.session")

    def begin(self, user: User) -> str:
        """Return the cookie of a new session."""
        content = {"user": user.name, "version": user.version, "token": secrets.token_urlsafe(24)}
        content["until"] = repr(self.clock() + self.lifetime_s)
        return str(self._signer.dumps(content))

    def read(self, cookie: str) -> Session | None:
        """Return the session of a cookie, unless it is forged, expired, ended or its user changed."""
        if not cookie:
            return None
        try:
            content: dict[str, Any] = self._signer.loads(cookie)
            until, token = float(content["until"]), str(content["token"])
        except (BadSignature, KeyError, TypeError, ValueError):
            return None
        user = self.users.all().get(str(content.get("user")))
        with self._lock:
            ended = token in self._ended
        if user is None or ended or self.clock() >= until or content.get("version") != user.version:
            return None
        return Session(user, token)

    def end(self, session: Session) -> None:
        """End a session: its cookie is worth nothing any more."""
        now = self.clock()
        with self._lock:
            self._ended = {t: until for t, until in self._ended.items() if until > now}
            self._ended[session.token] = now + self.lifetime_s

    def form_token(self, token: str) -> str:
        """Return what a form of the holder of `token` has to carry."""
        return hmac.new(self.secret.encode(), f"form {token}".encode(), hashlib.sha256).hexdigest()

    def form_matches(self, token: str, carried: str) -> bool:
        """Whether a form was made for the holder of `token`."""
        return bool(token) and hmac.compare_digest(self.form_token(token), carried)


@dataclass
class Brake:
    """Refuses to try passwords of a name, or from an address, after so many wrong ones."""

    attempts: int
    pause_s: float
    clock: Clock
    _wrong: dict[str, list[float]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def wait_s(self, *keys: str) -> float:
        """Return how long these keys have to wait; 0 when a password may be tried."""
        now = self.clock()
        with self._lock:
            return max((self._wait(key, now) for key in keys), default=0.0)

    def _wait(self, key: str, now: float) -> float:
        times = [at for at in self._wrong.get(key, ()) if now - at < self.pause_s]
        return times[-self.attempts] + self.pause_s - now if len(times) >= self.attempts else 0.0

    def wrong(self, *keys: str) -> None:
        """Note a wrong password."""
        now = self.clock()
        with self._lock:
            for key in keys:
                times = [at for at in self._wrong.pop(key, []) if now - at < self.pause_s]
                self._wrong[key] = [*times, now][-self.attempts :]
            while len(self._wrong) > MAXIMUM_REMEMBERED:
                del self._wrong[next(iter(self._wrong))]

    def right(self, *keys: str) -> None:
        """Forget the wrong ones."""
        with self._lock:
            for key in keys:
                self._wrong.pop(key, None)
