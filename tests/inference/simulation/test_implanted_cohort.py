"""A cohort in real livers: the command, the same seed, which study serves whom, what models are called."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dicom_node.cli.main import invoke
from dicom_node.settings import load_settings
from inference.errors import TrainingDataError
from inference.evaluation.redraws import write_redraws
from inference.results import BundleInfo, StudyResults
from inference.simulation.cohort import write_cohort
from inference.simulation.cohort_patient import Kind, Request, assignment
from inference.simulation.implanted_cohort import (
    ANATOMIES,
    ImplantedRequest,
    anatomy_splits,
    prepare_anatomies,
    read_request,
    write_implanted_cohort,
)
from inference.simulation.site_anatomies import AnatomySource, SiteAnatomy
from inference.training.cohort import NO_VALUE, Cohort, Origin, Split
from inference.training.cohort_check import check_cohort
from inference.training.generator import least_real
from tests.builders.site_anatomies import (
    OWN,
    a_scan,
    small_liver,
    write_dicom_study,
    write_volume_study,
)

SEED = 11


def quiet(text: str, share: float) -> None:
    """Show no progress."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site with one usable DICOM study, which has a tumour of its own, and one liver that is too small."""
    folder = tmp_path_factory.mktemp("site")
    write_dicom_study(folder / "first", a_scan(own=OWN), "SECRET-1")
    write_dicom_study(folder / "second", small_liver(a_scan(2, phases=("portal_venous",))), "SECRET-2")
    return folder


@pytest.fixture(scope="module")
def cohort(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """One patient, made by the command."""
    out = tmp_path_factory.mktemp("out") / "cohort"
    arguments = [
        "simulate",
        "--anatomy",
        str(site),
        "--patients",
        "1",
        "--seed",
        str(SEED),
        "--out",
        str(out),
    ]
    assert invoke(arguments) == 0
    return Cohort.open(out)


def original(cohort: Cohort) -> SiteAnatomy:
    request = json.loads((cohort.folder / "request.json").read_text(encoding="utf-8"))
    return SiteAnatomy.load(cohort.folder / ANATOMIES, request["anatomies"][0])


def test_the_command_writes_a_cohort_that_is_in_order(cohort: Cohort) -> None:
    found = [f.what for f in check_cohort(cohort.folder, quiet).findings]
    # One patient is of one split. The rim of a tumour in voxels of less than half is of no lesion in any
    # simulated cohort.
    known = ("no patient is in the split", "belongs to no lesion")
    assert [what for what in found if not any(k in what for k in known)] == []
    assert cohort.info.origin is Origin.IMPLANTED
    assert "simulated disease in real anatomy" in cohort.info.name
    assert list(cohort.patients["patient_id"]) == ["A00000"]
    assert list(cohort.patients["latent_anatomy"]) == [0]


def test_only_the_liver_changes_and_tumours_lie_in_it(cohort: Cohort) -> None:
    before, seen = original(cohort), cohort.images("A00000")
    assert seen.clean is None
    outside = seen.liver == 0
    assert np.array_equal(seen.liver, before.liver)
    assert seen.fractions[0].sum() > 0
    for later in (seen, *seen.follow_ups):
        assert np.array_equal(later.images[:, outside], before.images[:, outside])
        assert (later.fractions.sum(axis=0, dtype=int) <= seen.liver.astype(int) + 2).all()
        assert not later.lesion[outside].any()
    assert (seen.images[seen.images != before.images] != NO_VALUE).all()


def test_volumes_of_the_table_are_those_of_the_images(cohort: Cohort) -> None:
    seen, row = cohort.images("A00000"), cohort.row("A00000")
    voxel_ml = cohort.info.spacing_mm**3 / 1000.0
    assert seen.fractions[0].sum() / 255.0 * voxel_ml == pytest.approx(
        row["baseline_viable_ml"], rel=0.05, abs=0.3
    )
    assert seen.liver.sum() / 255.0 * voxel_ml == pytest.approx(row["liver_ml"], rel=0.01)


def test_no_name_of_the_site_is_in_the_cohort(cohort: Cohort) -> None:
    for path in cohort.folder.rglob("*"):
        assert "SECRET" not in path.name
        if path.suffix in (".json", ".csv"):
            text = path.read_text(encoding="utf-8")
            assert "SECRET" not in text
            assert "first" not in text


def test_the_same_seed_gives_the_same_bytes_and_reasons_are_told(
    cohort: Cohort, site: Path, tmp_path: Path
) -> None:
    request = Request(seed=SEED, regimens=load_settings().regimens)
    result = write_implanted_cohort(request, AnatomySource(site), 1, tmp_path, 1, quiet)
    # The command tells phases from the images too, which must not matter where headers say them.
    assert result.cohort.info.sha256 == cohort.info.sha256
    (left_out,) = result.left_out
    assert left_out.name == "folder 002", "what a site calls its folders may be a name"
    assert "too small" in left_out.reason
    assert result.studies == 1
    assert sum(result.by_split.values()) == 1
    with pytest.raises(TrainingDataError, match="another folder"):
        write_cohort(request, 1, tmp_path, 1, quiet)


def test_the_command_says_what_it_does_not_do(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = ["simulate", "--out", str(tmp_path / "out")]
    assert invoke([*start, "--anatomy", str(site), "--modality", "MR"]) != 0
    assert invoke([*start, "--anatomy", str(site), "--kind", "dicom"]) != 0
    assert invoke([*start, "--phase", "arterial"]) != 0
    assert invoke([*start, "--anatomy", str(tmp_path / "absent")]) != 0
    assert "there is no folder absent" in capsys.readouterr().err
    assert not (tmp_path / "out" / "patients.csv").exists()


def test_a_folder_without_a_usable_study_is_refused_with_all_reasons(tmp_path: Path) -> None:
    write_volume_study(tmp_path / "site" / "one", small_liver(a_scan(phases=("portal_venous",))))
    with pytest.raises(TrainingDataError, match="folder 001: its contrast phase is not known"):
        prepare_anatomies(AnatomySource(tmp_path / "site"), tmp_path / "out", quiet)


def test_studies_are_prepared_once(cohort: Cohort, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = cohort.folder / ANATOMIES
    source = AnatomySource(site)
    digests = prepare_anatomies(source, folder, quiet).digests
    stamps = {p.name: p.stat().st_mtime_ns for p in folder.glob("*.npz")}
    read: list[str] = []

    def reading(files: object, source: AnatomySource) -> SiteAnatomy:
        read.append("again")
        raise TrainingDataError("not now")

    monkeypatch.setattr("inference.simulation.implanted_cohort.read_anatomy", reading)
    assert prepare_anatomies(source, folder, quiet).digests == digests
    assert read == ["again"]  # the study that was left out
    assert {p.name: p.stat().st_mtime_ns for p in folder.glob("*.npz")} == stamps


@pytest.mark.slow
def test_the_oracle_draws_patients_again_in_their_own_livers(site: Path, tmp_path: Path) -> None:
    regimens = tuple(r for r in load_settings().regimens if r.id in {"tace", "haic", assignment(0, 3)[1]})
    request = Request(seed=3, shifted=True, regimens=regimens)
    result = write_implanted_cohort(request, AnatomySource(site), 1, tmp_path, 1, quiet)
    assert result.by_split[Split.TEST] == 1
    rows = pd.read_csv(write_redraws(tmp_path, 3, 1, quiet))
    assert set(rows["patient_id"]) == {"A00000"}
    assert set(rows["draw"]) == {0, 1, 2}


@pytest.mark.slow
def test_several_processes_make_the_same_patients(site: Path, tmp_path: Path) -> None:
    request = Request(seed=SEED, regimens=load_settings().regimens)
    results = [
        write_implanted_cohort(request, AnatomySource(site), 2, tmp_path / str(n), n, quiet) for n in (1, 2)
    ]
    assert results[0].cohort.info.sha256 == results[1].cohort.info.sha256


# ------------------------------------------------------------------ splits and words


@pytest.mark.parametrize(
    ("studies", "shares"),
    [(1, (1, 0, 0)), (2, (1, 1, 0)), (3, (1, 1, 1)), (10, (7, 1, 2)), (100, (70, 10, 20))],
)
def test_every_split_has_studies_of_its_own(studies: int, shares: tuple[int, int, int]) -> None:
    found = Counter(anatomy_splits(studies, 4))
    assert (found[Split.TRAIN], found[Split.VALIDATION], found[Split.TEST]) == shares
    assert anatomy_splits(studies, 4) == anatomy_splits(studies, 4)


def test_a_request_is_read_as_what_it_is() -> None:
    plain = Request(seed=1, regimens=())
    implanted = ImplantedRequest(seed=1, regimens=(), anatomies=("a",))
    assert read_request(plain.model_dump_json()) == plain
    assert read_request(implanted.model_dump_json()) == implanted
    assert "anatomies" not in plain.model_dump_json()
    with pytest.raises(ValueError, match="CT only"):
        ImplantedRequest(seed=1, regimens=(), anatomies=("a",), kind=Kind.DICOM)


def test_a_model_of_such_a_cohort_is_a_demonstration_model() -> None:
    assert least_real([Origin.REAL, Origin.IMPLANTED]) is Origin.IMPLANTED
    assert least_real([Origin.IMPLANTED, Origin.SIMULATED]) is Origin.SIMULATED
    assert least_real([Origin.REAL]) is Origin.REAL
    info = BundleInfo("x", "1", "0" * 64, f"{least_real([Origin.IMPLANTED])}: x, n 3")
    results = object.__new__(StudyResults)
    object.__setattr__(results, "bundles", {"generator": info})
    object.__setattr__(results, "second_opinions", ())
    assert results.demonstration
