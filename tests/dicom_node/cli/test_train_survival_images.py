"""``hepatocast train survival`` with an image encoder, up to a forecast that takes its vectors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from dicom_node.cli.main import DONE, WRONG_USAGE, invoke
from inference.bundle_store import METADATA, BundleKind, bundle_folder, load_metadata, seal
from inference.imaging.reading import read_case
from inference.models.catalogue import default_folders
from inference.pipeline import Bundles, run
from inference.randomness import RandomStreams
from inference.results import SurvivalCurve
from inference.settings import PipelineSettings, Regimen, TaceSession
from inference.training.cohort import Split
from tests.builders.image_encoders import write_small_encoder
from tests.builders.small_cohorts import small_cohort
from tests.builders.studies import Phantom, write_study

TACE = Regimen(id="tace", name="TACE", tace=(TaceSession(day=0),), source="test")


def test_vectors_come_from_a_file_or_from_an_encoder(tmp_path: Path, capsys) -> None:
    asked = ["train", "survival", str(tmp_path), "--out", str(tmp_path / "out"), "--images", "a.npz"]
    assert invoke([*asked, "--image-vectors", "b"]) == WRONG_USAGE
    assert "not both" in capsys.readouterr().err


def test_virtual_follow_ups_need_an_encoder(tmp_path: Path, capsys) -> None:
    asked = ["train", "survival", str(tmp_path), "--out", str(tmp_path / "out"), "--generator", "g"]
    assert invoke(asked) == WRONG_USAGE
    assert "--image-vectors" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_model_learns_from_virtual_follow_ups_of_a_generator_that_never_saw_the_patients(
    tmp_path: Path,
) -> None:
    cohort = small_cohort(tmp_path / "cohort", 40)
    encoder, bundle = write_small_encoder(tmp_path / "encoder"), tmp_path / "survival"
    drawn_by = tmp_path / "generator"
    shutil.copytree(bundle_folder("mechanistic"), drawn_by)
    told = json.loads((drawn_by / METADATA).read_text(encoding="utf-8"))
    seal(drawn_by, {**told, "cohorts": [{"name": "other", "sha256": "e" * 64}]})
    asked = ["train", "survival", str(cohort.folder), "--image-vectors", str(encoder), "--out", str(bundle)]
    assert invoke([*asked, "--generator", str(drawn_by), "--month", "3", "--quiet"]) == DONE
    _info, metadata = load_metadata(bundle)
    assert metadata["generators"] == [" ".join(_named(drawn_by))]
    assert metadata["training"]["image_kinds"] == ["baseline", "virtual follow-up"]
    assert metadata["training"]["patients_with"]["images"] == len(cohort.ids(Split.TRAIN))


def _named(bundle: Path) -> tuple[str, str, str]:
    info, _metadata = load_metadata(bundle)
    return info.name, info.version, info.sha256


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_model_trained_with_an_encoder_is_given_its_vectors_and_no_others(tmp_path: Path) -> None:
    cohort = small_cohort(tmp_path / "cohort", 40)
    encoder, bundle = write_small_encoder(tmp_path / "encoder"), tmp_path / "survival"
    asked = ["train", "survival", str(cohort.folder), "--image-vectors", str(encoder), "--out", str(bundle)]
    assert invoke([*asked, "--quiet"]) == DONE
    info, metadata = load_metadata(bundle)
    assert metadata["evidence"]["image_encoder"] == load_metadata(encoder)[0].sha256
    study = write_study(tmp_path / "study", phantom=Phantom(shape=(24, 64, 64), spacing_mm=(5.0, 5.0, 5.0)))
    settings = PipelineSettings(regimens=(TACE,), months=(3.0,), best_response=False)
    notes = []
    for seed in (0, 1):
        active = encoder if seed == 0 else write_small_encoder(tmp_path / "other", seed=1)
        folders = {**default_folders(), BundleKind.SURVIVAL: bundle, BundleKind.IMAGE_VECTORS: active}
        found = run(read_case(study), settings, Bundles.load(folders), RandomStreams(0), lambda *_: None)
        notes.append(found.notes)
        assert found.bundles["survival"] == info
        if seed == 0:
            assert isinstance(found.forecasts[0].survival.os, SurvivalCurve)
    assert notes[0] == ()
    assert "is not the one that the survival model was trained with" in notes[1][0]
