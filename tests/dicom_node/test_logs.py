"""The log: one place that sets it up, as text or JSON, with keys, without secrets and patients."""

from __future__ import annotations

import ast
import io
import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import dicom_node
from dicom_node.logs import configure_logging, log_keys, without_secrets
from dicom_node.operation_settings import LogFormat, LogSettings

_log = logging.getLogger("dicom_node.some.module")


@pytest.fixture
def root() -> Iterator[None]:
    logger = logging.getLogger()
    handlers, level = list(logger.handlers), logger.level
    yield
    logger.handlers[:] = handlers
    logger.setLevel(level)
    logging.captureWarnings(False)


def _logged(form: LogFormat, write, level: str = "INFO") -> str:
    stream = io.StringIO()
    configure_logging("worker", LogSettings(format=form, level=level), stream)
    write()
    return stream.getvalue()


@pytest.mark.usefixtures("root")
def test_json_is_one_object_a_line_with_role_and_keys():
    def write() -> None:
        with log_keys(job="revision-7-1", study="2.25.7"):
            _log.info("revision %d starts\nsecond line", 7)
        _log.warning("afterwards")

    first, second = (json.loads(line) for line in _logged(LogFormat.JSON, write).splitlines())
    assert (first["role"], first["level"], first["logger"]) == ("worker", "INFO", "dicom_node.some.module")
    assert first["message"] == "revision 7 starts\nsecond line"
    assert (first["job"], first["study"]) == ("revision-7-1", "2.25.7")
    assert first["time"].endswith("+00:00")
    assert "job" not in second


@pytest.mark.usefixtures("root")
def test_text_has_the_keys_too():
    def write() -> None:
        with log_keys(revision=7), log_keys(study="2.25.7"):
            _log.info("it starts")

    assert _logged(LogFormat.TEXT, write).endswith(
        " INFO worker dicom_node.some.module it starts [revision=7 study=2.25.7]\n"
    )


@pytest.mark.usefixtures("root")
def test_keys_are_of_one_thread():
    def write() -> None:
        with log_keys(study="2.25.7"):
            thread = threading.Thread(target=lambda: _log.info("another"))
            thread.start()
            thread.join()

    assert "study" not in json.loads(_logged(LogFormat.JSON, write))


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("form", list(LogFormat))
def test_errors_are_logged_without_their_words(form):
    patient = "^".join(("DOE", "JANE"))

    def write() -> None:
        try:
            try:
                raise KeyError(patient)
            except KeyError as error:
                raise ValueError(patient) from error
        except ValueError:
            _log.exception("a thread ended")

    text = _logged(form, write)
    assert patient not in text
    assert "ValueError" in text
    assert "KeyError" in text
    assert "test_logs.py" in text


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("cannot reach postgresql://node:hunter2@db/hepatocast", "hunter2"),
        ("https://token-hunter2@alerts.example/hook", "hunter2"),
        ("password=hunter2 is wrong", "hunter2"),
        ("{'password': 'hunter2 with words'}", "hunter2"),
        ('"smtp_password": "hunter2"', "hunter2"),
        ("api_key = hunter2", "hunter2"),
        ("HEPATOCAST_WEBHOOK_TOKEN=hunter2", "hunter2"),
        ("Authorization: Bearer hunter2hunter2", "hunter2"),
    ],
)
def test_what_looks_like_a_secret_is_blotted_out(text, secret):
    assert secret not in without_secrets(text)


@pytest.mark.parametrize(
    "text",
    [
        "PACS at 10.0.0.5: association rejected",
        "http://127.0.0.1:8117",
        "a password has 12 to 256 characters",
    ],
)
def test_everything_else_stays(text):
    assert without_secrets(text) == text


@pytest.mark.usefixtures("root")
def test_level_is_a_setting():
    assert _logged(LogFormat.TEXT, lambda: _log.info("quiet"), "WARNING") == ""


def test_one_place_sets_up_the_log_of_all_roles():
    """Nobody else calls basicConfig, but the command line for its own errors."""
    package = Path(dicom_node.__file__).parent
    callers = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr == "basicConfig":
                callers.add(path.relative_to(package).as_posix())
    assert callers <= {"cli/main.py"}
