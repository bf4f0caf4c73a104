"""Templates of the page, and the words and colours of states."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

FOLDER = Path(__file__).parent

TONES: Mapping[str, str] = {
    "RECEIVING": "working",
    "COMPLETE": "working",
    "QUEUED": "working",
    "RUNNING": "working",
    "DONE": "working",
    "DELIVERING": "working",
    "DELIVERED": "good",
    "REVIEW": "attention",
    "HELD": "attention",
    "FAILED": "bad",
    "REFUSED": "bad",
    "IGNORED": "quiet",
    "CANCELLED": "quiet",
    "SUPERSEDED": "quiet",
    "READY": "working",
    "SENT": "working",
    "COMMITTED": "working",
    "VERIFIED": "good",
    "REJECTED": "bad",
    "WITHDRAWN": "quiet",
}
"""State of a revision or an object to the tone of its badge; the word is always there too."""


def when(seconds: float | None) -> Markup:
    """Return a time as people read it, in the machine's zone, with the exact one for programs."""
    if seconds is None:
        return Markup("")
    at = datetime.fromtimestamp(seconds, UTC)
    local = at.astimezone()
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        at.isoformat(timespec="seconds"),
        local.strftime("%Y-%m-%d %H:%M:%S %Z"),
        local.strftime("%Y-%m-%d %H:%M:%S"),
    )


def duration(seconds: float) -> str:
    """Return a duration in words, with its two largest units."""
    whole = int(max(0.0, seconds))
    parts = []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, whole = divmod(whole, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"


def query(**values: object) -> str:
    """Return a query string of what is not empty."""
    return urlencode({k: v for k, v in values.items() if v not in ("", None)})


def probability(value: float | None) -> str:
    """Return a probability in percent, or a dash."""
    return "–" if value is None else f"{100 * value:.0f} %"


class Renderer:
    """Renders templates with autoescaping; a name that is missing is an error."""

    def __init__(self) -> None:
        self._environment = Environment(
            loader=FileSystemLoader(FOLDER / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters.update(when=when, duration=duration, probability=probability)
        self._environment.globals.update(tones=TONES, query=query)

    def __call__(self, name: str, **values: Any) -> str:
        """Return one page."""
        return self._environment.get_template(f"{name}.html.j2").render(values)
