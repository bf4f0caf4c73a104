"""The operator's page of a node, in this process: with a client for each user, and a browser for pictures."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from dicom_node.observation.health import Health
from dicom_node.settings import NodeSettings, load_settings
from dicom_node.web.app import OperatorPage
from dicom_node.web.users import Role
from tests.builders.nodes import PACS, Node

PASSWORD = "a long enough password"
CHEAP_HASH = (
    "scrypt$16$8$1$00$" + hashlib.scrypt(PASSWORD.encode(), salt=b"\0", n=16, r=8, p=1, dklen=32).hex()
)
TOKEN = re.compile(r'name="token" value="([0-9a-f]+)"')


def page_settings(data_dir: Path, **web: Any) -> NodeSettings:
    """Return settings of a node with one peer, on this data folder."""
    settings = load_settings()
    listener = settings.listener.model_copy(update={"minimum_free_bytes": 0, "port": 0})
    return settings.model_copy(
        update={
            "data_dir": data_dir,
            "listener": listener,
            "peers": (PACS,),
            "web": settings.web.model_copy(update={"port": 0, **web}),
        }
    )


@dataclass
class PageOfNode:
    """The page, its users, and clients that keep their cookies."""

    node: Node
    settings: NodeSettings

    def __post_init__(self) -> None:
        health = Health(self.settings, self.node.database, self.node.clock, lambda _: 10**12)
        self.page = OperatorPage(self.settings, self.node.ledger, self.node.engine, "secret", health)
        self.app = self.page.app()

    def add_user(self, name: str, role: Role) -> None:
        """Add a user with a hash that is cheap to check; the costs stand in the hash."""
        file = self.settings.web.users(self.settings.data_dir)
        rows = json.loads(file.read_text()) if file.exists() else []
        rows.append({"name": name, "role": str(role), "password_hash": CHEAP_HASH})
        file.write_text(json.dumps(rows))

    def client(self, address: str = "127.0.0.1") -> TestClient:
        return TestClient(
            self.app, base_url="http://localhost:8117", client=(address, 50000), follow_redirects=False
        )

    def logged_in(self, name: str, role: Role = Role.OPERATOR) -> TestClient:
        """Return a client that has logged in as a new user."""
        self.add_user(name, role)
        client = self.client()
        answer = log_in(client, name, PASSWORD)
        assert answer.status_code == 303, answer.text
        return client


def log_in(client: TestClient, name: str, password: str) -> Any:
    """Fill in the form of the login."""
    token = TOKEN.search(client.get("/login").text)
    return client.post(
        "/login", data={"name": name, "password": password, "token": token.group(1) if token else ""}
    )


def form_token(client: TestClient, path: str = "/") -> str:
    """Return the token of the forms on a page."""
    found = TOKEN.search(client.get(path).text)
    assert found is not None
    return found.group(1)


def picture(chromium: str, html: str, css: Path, target: Path, size: str = "1400,1000") -> None:
    """Draw a page as a browser shows it."""
    folder = target.parent
    styled = html.replace("/static/style.css", css.as_uri()).replace(
        "/static/icon.svg", (css.parent / "icon.svg").as_uri()
    )
    source = folder / f"{target.stem}.html"
    source.write_text(styled, encoding="utf-8")
    subprocess.run(
        [
            chromium,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--allow-file-access-from-files",
            f"--window-size={size}",
            f"--screenshot={target}",
            source.as_uri(),
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )
