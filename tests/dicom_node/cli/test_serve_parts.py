"""``hepatocast serve --only``: which processes a machine runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from dicom_node import supervisor
from dicom_node.cli.main import app


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[str, ...]]]:
    """Names and commands of the processes that would run."""
    found: list[tuple[str, tuple[str, ...]]] = []

    def run(self: supervisor.Supervisor, _stop: object) -> None:
        found.extend((role.name, role.command[1:]) for role in self.roles)

    monkeypatch.setattr(supervisor.Supervisor, "run", run)
    monkeypatch.setattr("dicom_node.cli.serve.stop_on_signals", lambda: None)
    return found


def test_a_node_runs_all_parts(started, tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["serve"]).exit_code == 0
    assert [name for name, _ in started] == ["listener", "steward", "worker", "page"]
    assert started[0][1] == ("-m", "dicom_node.network.scp")
    assert started[2][1] == ("-m", "dicom_node.processes", "worker")
    assert started[3][1] == ("-m", "dicom_node.web.server")


def test_the_page_can_be_left_out(started, tmp_path: Path) -> None:
    config = tmp_path / "site.yaml"
    config.write_text("web: {enabled: false}\n")
    assert CliRunner().invoke(app, ["serve", "--config", str(config)]).exit_code == 0
    assert [name for name, _ in started] == ["listener", "steward", "worker"]


def test_a_machine_runs_the_parts_that_are_named(started, tmp_path: Path) -> None:
    config = tmp_path / "site.yaml"
    config.write_text("data_dir: x\n")
    arguments = ["serve", "--only", "steward", "--only", "listener", "--config", str(config)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert [name for name, _ in started] == ["steward", "listener"]
    assert all(command[-2:] == ("--config", str(config)) for _, command in started)


def test_an_unknown_part_is_refused(started) -> None:
    assert CliRunner().invoke(app, ["serve", "--only", "janitor"]).exit_code == 2
    assert started == []
