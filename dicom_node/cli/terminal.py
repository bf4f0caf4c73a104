"""What people see while they wait: a progress bar on a terminal, log lines elsewhere."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_log = logging.getLogger(__name__)

LOG_EVERY = 0.1
"""Share of the work between two log lines where there is no terminal."""


@contextmanager
def progress_bar(title: str, *, quiet: bool) -> Iterator[Callable[[str, float], None]]:
    """Yield a function of (what is being done, share done 0 to 1); `quiet` shows nothing."""
    if quiet:
        yield lambda _text, _share: None
    elif sys.stderr.isatty():
        with _rich_bar(title) as report:
            yield report
    else:
        yield _log_lines(title)


@contextmanager
def _rich_bar(title: str) -> Iterator[Callable[[str, float], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("[bold]{task.fields[title]}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=1.0, title=title)
        yield lambda text, share: bar.update(task, description=text, completed=share)


def _log_lines(title: str) -> Callable[[str, float], None]:
    said = -1.0

    def report(text: str, share: float) -> None:
        nonlocal said
        if share - said >= LOG_EVERY or (share >= 1.0 and said < 1.0):
            said = share
            _log.info("%s: %3.0f %% %s", title, 100 * share, text)

    return report
