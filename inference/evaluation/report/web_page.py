"""The report as one HTML file that needs no other file and no network."""

from __future__ import annotations

import base64
from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from inference.evaluation.report.blocks import Block, Report
from inference.evaluation.report.look import Picture

_TEMPLATE = "page.html.j2"


def html_page(report: Report) -> str:
    """Return the page; everything that is not markup is escaped."""
    text = files("inference.evaluation.report").joinpath(_TEMPLATE).read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    return environment.from_string(text).render(report=report, kind_of=_kind, inline=_inline) + "\n"


def _kind(block: Block) -> str:
    return type(block).__name__


def _inline(picture: Picture) -> str:
    return base64.b64encode(picture.png).decode("ascii")
