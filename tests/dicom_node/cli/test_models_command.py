"""``hepatocast models`` as an engineer uses it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from dicom_node.cli.main import invoke
from inference.bundle_store import BundleKind, describe
from inference.models.catalogue import DEFAULT_BUNDLES
from tests.builders.model_bundles import damage, variant


@pytest.fixture
def config(tmp_path: Path) -> str:
    file = tmp_path / "site.yaml"
    file.write_text(yaml.safe_dump({"data_dir": str(tmp_path / "data")}))
    return str(file)


def _json(capsys: pytest.CaptureFixture[str], *arguments: str) -> object:
    assert invoke([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_retrained_bundle_is_installed_activated_and_rolled_back(config, tmp_path, capsys):
    folder = str(variant(tmp_path / "retrained", metrics={"dice": 0.5}))
    made = _json(capsys, "models", "install", folder, "--config", config)
    sha256 = made["sha256"]
    assert made["kind"] == "generator"
    assert _json(capsys, "models", "activate", sha256[:10], "--config", config)["sha256"] == sha256
    bundles = _json(capsys, "models", "list", "--config", config)["bundles"]
    table = {(b["name"], b["version"]): b for b in bundles}
    retrained = table["mechanistic", "9.9.9"]
    assert (retrained["status"], retrained["origin"]) == ("active", "installed")
    assert retrained["metrics"] == {"dice": 0.5}
    assert retrained["trained_on"] == "mechanistic"
    shipped = describe(DEFAULT_BUNDLES[BundleKind.GENERATOR]).info
    assert table[shipped.name, shipped.version]["status"] == "available"
    rolled = _json(capsys, "models", "rollback", "generator", "--config", config)
    assert rolled["sha256"] == shipped.sha256
    events = [h["event"] for h in _json(capsys, "models", "history", "--config", config)]
    assert events == ["activated", "rolled back"]


def test_the_table_and_the_details_are_for_people(config, capsys):
    assert invoke(["models", "list", "--config", config]) == 0
    out = capsys.readouterr().out
    assert "mechanistic" in out
    assert "active" in out
    assert invoke(["models", "show", "mechanistic", "--config", config]) == 0
    assert "not_calibrated" in capsys.readouterr().out
    assert invoke(["models", "history", "--config", config]) == 0
    assert "was ever changed" in capsys.readouterr().out


def test_verify_finds_damage_and_says_where(config, tmp_path, capsys):
    assert invoke(["models", "verify", "--config", config]) == 0
    folder = variant(tmp_path / "retrained")
    assert invoke(["models", "verify", str(folder), "--config", config]) == 0
    damage(folder)
    capsys.readouterr()
    assert invoke(["models", "verify", str(folder), "--config", config]) == 1
    assert "damaged" in capsys.readouterr().out
    assert invoke(["models", "install", str(folder), "--config", config]) == 1
    assert "damaged" in capsys.readouterr().err


def test_wrong_names_are_wrong_usage(config, capsys):
    assert invoke(["models", "activate", "nothing", "--config", config]) == 2
    assert invoke(["models", "rollback", "nothing", "--config", config]) == 2
    assert invoke(["models", "rollback", "generator", "--config", config]) == 2
    assert "nothing to roll back" in capsys.readouterr().err


def test_looking_makes_no_data_folder(config, tmp_path, capsys):
    for command in (["list"], ["show", "mechanistic"], ["verify"], ["history"]):
        assert invoke(["models", *command, "--config", config]) == 0
    assert not (tmp_path / "data").exists()


def test_the_help_shows_the_whole_way(capsys):
    assert invoke(["models", "--help"]) == 0
    out = capsys.readouterr().out
    for word in ("train", "evaluate", "install", "activate", "rollback"):
        assert f"hepatocast {word}" in out or f"hepatocast models {word}" in out
