"""Virtual follow-ups for the training of the survival model: by whom each patient is drawn."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from inference.bundle_store import METADATA, bundle_folder, seal
from inference.errors import ModelError, TrainingDataError
from inference.models.evidence import ImageKind
from inference.models.image_features.vectors import ImageVectors
from inference.training.cohort import Cohort, Split
from inference.training.cohort_split import leaving_out, patients_of_part
from inference.training.never_seen import never_seen
from inference.training.survival.sources import read_image_file, write_image_file
from inference.training.survival.virtual_vectors import VirtualOrder, assigned, virtual_images
from tests.builders.flow_bundles import HAIC, TACE
from tests.builders.image_encoders import write_small_encoder
from tests.builders.small_cohorts import small_cohort

PARTS = ("1/3", "2/3", "3/3")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return small_cohort(tmp_path_factory.mktemp("cohort"), patients=5)


def generator(folder: Path, **told: object) -> str:
    """Write the mechanistic generator with what it says of its training."""
    shutil.copytree(bundle_folder("mechanistic"), folder)
    metadata = json.loads((folder / METADATA).read_text(encoding="utf-8"))
    for key in ("sha256", "metadata_sha256", "cohorts", "cohort"):
        metadata.pop(key, None)
    # Files of different training differ, and so do their digests.
    (folder / "note.txt").write_text(json.dumps(told, default=str), encoding="utf-8")
    seal(folder, {**metadata, **told})
    return str(folder)


def trained_without(part: str, cohort: Cohort, folder: Path) -> str:
    entry = {"name": cohort.info.name, "sha256": cohort.info.sha256, "left_out": part}
    return generator(folder / part.replace("/", "_"), cohorts=[entry])


def test_parts_cover_the_training_patients_once_and_hide_them(cohort: Cohort) -> None:
    used = set(cohort.ids(Split.TRAIN, Split.VALIDATION))
    parts = [patients_of_part(cohort, part) for part in PARTS]
    assert set().union(*parts) == used
    assert sum(len(part) for part in parts) == len(used)
    with pytest.raises(TrainingDataError, match="no validation patient is left"):
        leaving_out(cohort, "1/3")
    many = pd.concat([cohort.patients] * 8, ignore_index=True)
    splits = np.array(["train", "validation", "test"])[np.arange(len(many)) % 3]
    many = many.assign(patient_id=[f"M{i:02d}" for i in range(len(many))], split=splits)
    larger = Cohort(cohort.folder, cohort.info, many, cohort.outcomes)
    for part in ("1/2", "2/2"):
        hidden = leaving_out(larger, part)
        assert hidden.left_out == part
        assert not set(hidden.ids(*Split)) & patients_of_part(larger, part)
        assert hidden.ids(Split.TEST) == larger.ids(Split.TEST)
    for wrong in ("0/3", "4/3", "1/1", "a/b", ""):
        with pytest.raises(TrainingDataError, match="is no part"):
            patients_of_part(cohort, wrong)


def test_what_a_bundle_says_decides_whom_it_never_saw(cohort: Cohort, tmp_path: Path) -> None:
    everybody, test = set(cohort.patients["patient_id"]), set(cohort.ids(Split.TEST))
    own = {"name": cohort.info.name, "sha256": cohort.info.sha256}
    cases = {
        "other": ([{"name": "else", "sha256": "e" * 64}], everybody),
        "own": ([own], test),
        "part": ([{**own, "left_out": "2/3"}], test | patients_of_part(cohort, "2/3")),
    }
    for name, (cohorts, unseen) in cases.items():
        _info, found = never_seen(generator(tmp_path / name, cohorts=cohorts), "generator", cohort)
        assert found == unseen
    with pytest.raises(ModelError, match="does not say on which cohorts"):
        never_seen(generator(tmp_path / "silent"), "generator", cohort)
    former = [{"name": cohort.info.name, "sha256": "f" * 64}]
    with pytest.raises(ModelError, match="of another digest"):
        never_seen(generator(tmp_path / "former", cohorts=former), "generator", cohort)


def test_each_patient_is_drawn_by_a_generator_that_never_saw_the_patient(
    cohort: Cohort, tmp_path: Path
) -> None:
    several = [trained_without(part, cohort, tmp_path) for part in PARTS]
    infos, drawn_by = assigned(cohort, several)
    assert set(drawn_by) == set(cohort.patients["patient_id"])
    assert len({info.sha256 for info in infos}) == 3
    for number, part in enumerate(PARTS):
        assert {drawn_by[p] for p in patients_of_part(cohort, part)} <= {number}
    with pytest.raises(TrainingDataError, match="seen by every generator"):
        assigned(cohort, several[:2])


def test_vectors_are_made_kept_and_told(cohort: Cohort, tmp_path: Path) -> None:
    encoder = ImageVectors.from_bundle(write_small_encoder(tmp_path / "encoder"))
    other = generator(tmp_path / "other", cohorts=[{"name": "else", "sha256": "e" * 64}])
    order = VirtualOrder((other,), {r.id: r for r in (TACE, HAIC)}, months=(3.0,))
    found = virtual_images(cohort, encoder, order, tmp_path / "kept", lambda *_: None)
    assert found.kinds == (ImageKind.BASELINE.value, ImageKind.VIRTUAL.value)
    assert found.encoder == encoder.info.sha256
    assert found.patient_ids == tuple(cohort.patients["patient_id"])
    assert found.images.known.all()
    np.testing.assert_array_equal(found.images.months, [[0.0, 3.0]] * 5)
    assert not np.allclose(found.images.features[:, 0], found.images.features[:, 1])
    kept = sorted((tmp_path / "kept").rglob("*.npz"))
    assert len(kept) == 5
    before = [path.stat().st_mtime_ns for path in kept]
    again = virtual_images(cohort, encoder, order, tmp_path / "kept", lambda *_: None)
    assert [path.stat().st_mtime_ns for path in kept] == before
    np.testing.assert_array_equal(again.images.features, found.images.features)
    write_image_file(tmp_path / "images.npz", found)
    assert read_image_file(tmp_path / "images.npz").generators == found.generators
    assert found.generators[0].startswith("mechanistic")
