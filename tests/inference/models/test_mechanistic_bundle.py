from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from inference.bundle_store import bundle_folder, digest, load_metadata, read_parameters, seal
from inference.errors import ModelError
from inference.models.mechanistic import MechanisticGenerator
from inference.models.mechanistic.parameters import MechanisticParameters
from inference.settings import Regimen

CONFIG = Path(__file__).resolve().parents[3] / "config" / "regimens.yaml"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle_folder("mechanistic"), tmp_path / "site_bundle"))


def test_shipped_bundle_is_verified_and_says_what_it_was_made_from() -> None:
    info, metadata = load_metadata("mechanistic")
    assert info.trained_on == "mechanistic"
    assert info.sha256 == digest(bundle_folder("mechanistic"))
    rates = metadata["calibration"]["response_rates"]
    assert set(rates) == set(metadata["regimens"])
    for name, row in rates.items():
        if row["orr_target"] is not None:
            assert abs(row["orr_achieved"] - row["orr_target"]) <= 0.05, name


def test_configured_regimens_are_those_of_the_bundle() -> None:
    table = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["regimens"]
    regimens = [Regimen.model_validate(entry) for entry in table]
    assert {r.id for r in regimens} == set(MechanisticGenerator.from_bundle().parameters.regimens)


@pytest.mark.parametrize("name", ["parameters.yaml", "calibrated.json"])
def test_bundle_with_a_changed_file_is_refused(copy: Path, name: str) -> None:
    (copy / name).write_bytes((copy / name).read_bytes() + b"\n")
    with pytest.raises(ModelError, match="damaged"):
        MechanisticGenerator.from_bundle(copy)


def test_bundle_with_an_added_or_lost_file_is_refused(copy: Path) -> None:
    (copy / "weights.bin").write_bytes(b"0")
    with pytest.raises(ModelError, match="damaged"):
        load_metadata(copy)
    (copy / "weights.bin").unlink()
    load_metadata(copy)
    (copy / "calibrated.json").unlink()
    with pytest.raises(ModelError, match="damaged"):
        load_metadata(copy)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": "x"'])
def test_unreadable_metadata_are_refused(copy: Path, text: str) -> None:
    (copy / "metadata.json").write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match="cannot be read"):
        load_metadata(copy)


def test_absent_bundle_is_refused_without_naming_folders(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        load_metadata(tmp_path / "nothing")
    assert str(tmp_path) not in str(caught.value)


def test_parameter_that_is_not_known_is_refused_even_when_sealed(copy: Path) -> None:
    path = copy / "parameters.yaml"
    path.write_text(path.read_text(encoding="utf-8") + "\nsurprise: 1\n", encoding="utf-8")
    seal(copy, json.loads((copy / "metadata.json").read_text(encoding="utf-8")))
    load_metadata(copy)
    with pytest.raises(ModelError, match="not valid"):
        read_parameters(copy, "parameters.yaml", MechanisticParameters)


def test_digest_depends_on_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1", encoding="utf-8")
    one = digest(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert digest(tmp_path) != one
