"""``hepatocast train segmenter``: what is refused before anything is drawn or trained."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dicom_node.cli.main import FAILED, WRONG_USAGE, invoke
from inference.bundle_store import bundle_folder


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle_folder("segmenter"), tmp_path / "ours"))


def test_the_bundle_that_is_gone_on_from_is_never_written_over(ours, capsys):
    before = {p: p.read_bytes() for p in ours.rglob("*") if p.is_file()}
    assert invoke(["train", "segmenter", "--start-from", str(ours), "--out", str(ours)]) == WRONG_USAGE
    assert "--out" in capsys.readouterr().err
    assert before == {p: p.read_bytes() for p in ours.rglob("*") if p.is_file()}


def test_a_damaged_bundle_is_not_gone_on_from(ours, tmp_path, capsys):
    weights = ours / "models" / "ct_fine.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00\x01")
    out = tmp_path / "out"
    assert invoke(["train", "segmenter", "--start-from", str(ours), "--out", str(out)]) == FAILED
    assert "damaged" in capsys.readouterr().err
    assert not out.exists()


def test_another_modality_is_wrong_usage(tmp_path, capsys):
    command = ["train", "segmenter", "--modality", "PT", "--out", str(tmp_path / "out")]
    assert invoke(command) == WRONG_USAGE
    assert "CT or MR" in capsys.readouterr().err
