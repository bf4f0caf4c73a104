"""The listener as a process: what it imports, how it starts and how it ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from dicom_node.network.scp import port_file
from tests.builders.dicom_files import Called, ct_slice, send
from tests.builders.listeners import ROOT, listener_config, listener_process, start_listener

HEAVY = ("torch", "monai", "highdicom", "scipy", "SimpleITK", "matplotlib", "pandas", "reporting", "typer")


def test_it_imports_nothing_of_the_pipeline() -> None:
    program = f"import sys, dicom_node.network.scp; print([m for m in {HEAVY!r} if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_it_tells_its_port_and_ends_cleanly_on_sigterm(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    config = listener_config(data_dir)
    listener = start_listener(config, data_dir)
    assert send([ct_slice()], Called(listener.port)) == [0]
    assert listener.stop() == 0
    assert not port_file(data_dir).exists()
    log = listener.log.read_text()
    assert "listens on port" in log
    assert "Traceback" not in log
    with listener_process(config, data_dir) as again:
        assert send([ct_slice()], Called(again.port)) == [0]


def test_a_second_listener_on_the_same_folder_refuses_to_start(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    config = listener_config(data_dir)
    with listener_process(config, data_dir) as first:
        command = [sys.executable, "-m", "dicom_node.network.scp", "--config", str(config)]
        second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
        assert second.returncode == 2
        assert "another listener runs" in second.stderr
        assert second.stdout == ""
        assert send([ct_slice()], Called(first.port)) == [0]


def test_a_port_that_is_taken_is_a_clear_error(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with listener_process(listener_config(data_dir), data_dir) as first:
        config = listener_config(tmp_path / "other", port=first.port)
        command = [sys.executable, "-m", "dicom_node.network.scp", "--config", str(config)]
        second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
        assert second.returncode == 2
        assert "set listener.host and listener.port" in second.stderr
