"""From a folder of DICOM studies and a table to a prepared cohort, its report and its check."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from inference.case import ClinicalRecord, Phase
from inference.errors import TrainingDataError
from inference.imaging.phase_features import CT_PHASES
from inference.imaging.resampling import share_of
from inference.models.seg_in_study import SegInStudy
from inference.results import BundleInfo, Tissue
from inference.settings import SegmentationLimits
from inference.training.cohort import CROP, NO_VALUE, Cohort, Origin, Split, cohort_digest
from inference.training.cohort_check import check_cohort
from inference.training.cohort_split import SplitSettings
from inference.training.crop_volumes import tissue_ml
from inference.training.registration import RegistrationSettings
from inference.training.site_archive import MatchedPatient, index_archive, match_studies
from inference.training.site_cohort import SiteOrder, SiteResult, prepare_site_cohort
from inference.training.site_patient import PatientTask, SiteSettings, prepare_patient
from inference.training.site_pseudonyms import Pseudonyms
from inference.training.site_reading import read_study
from inference.training.site_report import write_report
from inference.training.site_table import TableRefused, read_site_table
from tests.builders.site_archive import (
    AFTER,
    BEFORE,
    MOVED,
    SHRUNK,
    TWO,
    WITH_NEW,
    Scene,
    SitePatient,
    Tumour,
    scan,
    write_patient,
    write_scan,
    write_table,
)

QUICK = SiteSettings(registration=RegistrationSettings(spacing_mm=4.5, elastic_steps=12, rigid_steps=30))
FEW = SplitSettings(minimum_patients=4, validation_share=0.4)
PSEUDONYMS = Pseudonyms(b"salt of the test")

SITE = (
    SitePatient("SECRET-1", 1),
    SitePatient("SECRET-2", 2, after=WITH_NEW, centre="Hospital B"),
    SitePatient("SECRET-3", 3, regimen_id="haic"),
    SitePatient("SECRET-4", 4, after=()),
    SitePatient("SECRET-5", 5),
)
"""One shrinks, one gets a new lesion, one is left without tumour, the last has no SEG at follow-up."""


def pseudonym(number: int) -> str:
    return PSEUDONYMS.of("", f"SECRET-{number}")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("site")
    rows: list[dict[str, str]] = []
    for patient in SITE:
        rows += write_patient(folder / "archive", patient)
    rows[7]["no_tumour_left"] = "yes"
    (folder / "archive" / "SECRET-5" / "after" / "seg.dcm").unlink()
    (folder / "archive" / "notes.txt").write_text("no DICOM", encoding="utf-8")
    return folder / "archive", write_table(folder / "table.csv", rows)


def order(site: tuple[Path, Path], out: Path) -> SiteOrder:
    return SiteOrder(site[0], site[1], out, "tiny", PSEUDONYMS, None, ("tace", "haic"), SegInStudy())


@pytest.fixture(scope="module")
def result(site, tmp_path_factory) -> SiteResult:
    out = tmp_path_factory.mktemp("cohort")
    found = prepare_site_cohort(order(site, out), QUICK, FEW, lambda _text, _share: None)
    write_report(found, QUICK.limits.registration, out)
    return found


@pytest.fixture(scope="module")
def cohort(result) -> Cohort:
    assert result.cohort is not None
    return result.cohort


def outcome(cohort: Cohort, number: int) -> pd.Series:
    (row,) = cohort.outcomes[cohort.outcomes.patient_id == pseudonym(number)].to_dict("records")
    return row


def test_one_patient_from_dicom_to_crops(tmp_path):
    rows = write_patient(tmp_path / "archive", SitePatient("SECRET-2", 2, after=WITH_NEW))
    patients = read_site_table(write_table(tmp_path / "table.csv", rows), ("tace",))
    archive = index_archive(tmp_path / "archive", lambda _text, _share: None)
    (matched,) = match_studies(patients, archive)
    found = prepare_patient(PatientTask(matched, "P1", SegInStudy(), QUICK, tmp_path / "out"))
    assert found.left_out == ()
    (row,) = found.outcomes
    assert (row["new_lesions"], row["recist11"], row["mrecist"]) == (1, "PD", "PD")
    (pair,) = found.pairs
    assert pair.lesion_volume_ratio == pytest.approx(1.0, abs=0.05)
    with np.load(tmp_path / "out" / "images" / "P1.npz") as stored:
        assert set(np.unique(stored["lesion"])) == {0, 1, 2}
        assert set(np.unique(stored["0/lesion"])) == {0, 1, 2, 3}
    again = prepare_patient(PatientTask(_without_seg(matched), "P2", SegInStudy(), QUICK, tmp_path / "out"))
    assert again.row is None
    assert "no liver segmentation" in again.left_out[0].reason


def _without_seg(matched: MatchedPatient) -> MatchedPatient:
    study = matched.baseline.study
    files = tuple(f for f in study.files if f.name != "seg.dcm")
    baseline = dataclasses.replace(matched.baseline, study=dataclasses.replace(study, files=files))
    return dataclasses.replace(matched, baseline=baseline)


@pytest.mark.slow
def test_cohort_is_real_and_valid(cohort):
    assert cohort.info.origin is Origin.REAL
    assert cohort.info.phases == ("arterial", "portal_venous")
    summary = check_cohort(cohort.folder, lambda _text, _share: None)
    assert summary.findings == ()
    assert summary.patients == 4
    assert sum(summary.by_split.values()) == 4
    assert all(cohort.ids(split) for split in Split)


@pytest.mark.slow
def test_volumes_are_those_of_the_follow_up_itself(cohort):
    """The tumours shrank; what the table says must not have gone through the registration."""
    after = scan(Scene(1, SHRUNK), MOVED, origin_mm=(-165.0, -140.0, -90.0))
    row = outcome(cohort, 1)
    dead = after.necrosis & (after.tumour > 0)
    alive = (after.tumour > 0) & ~dead
    assert row["viable_ml"] == pytest.approx(float(alive.sum()) * after.grid.voxel_ml, abs=1e-3)
    assert row["necrosis_ml"] == pytest.approx(float(dead.sum()) * after.grid.voxel_ml, abs=1e-3)
    assert row["recist11"] == "PR"
    assert row["new_lesions"] == 0
    assert row["months"] == pytest.approx(2.99, abs=0.01)


@pytest.mark.slow
def test_new_lesion_is_numbered_above_and_means_progression(cohort):
    row = outcome(cohort, 2)
    assert (row["new_lesions"], row["recist11"], row["mrecist"]) == (1, "PD", "PD")
    images = cohort.images(pseudonym(2))
    assert set(np.unique(images.lesion)) == {0, 1, 2}
    assert set(np.unique(images.follow_ups[0].lesion)) == {0, 1, 2, 3}


@pytest.mark.slow
def test_tumours_that_are_gone_are_a_complete_response(cohort):
    row = outcome(cohort, 4)
    assert (row["viable_ml"], row["recist11"], row["mrecist"]) == (0.0, "CR", "CR")
    assert not cohort.images(pseudonym(4)).follow_ups[0].fractions.any()


@pytest.mark.slow
def test_images_are_crops_in_the_place_of_the_baseline(cohort):
    images = cohort.images(pseudonym(1))
    (later,) = images.follow_ups
    assert images.images.shape == later.images.shape == (2, *CROP)
    before, after = images.fractions.sum(axis=0) > 127, later.fractions.sum(axis=0) > 127
    # The tumours shrank about their centres: in the right place they lie within those of the baseline.
    assert (after & before).sum() > 0.85 * after.sum()
    liver = (images.liver > 200) & (images.lesion == 0) & (later.lesion == 0)
    both = liver & (images.images[1] > NO_VALUE) & (later.images[1] > NO_VALUE)
    correlation = np.corrcoef(images.images[1][both], later.images[1][both])[0, 1]
    assert correlation > 0.5
    total = float(tissue_ml(later.fractions).sum())
    row = outcome(cohort, 1)
    assert total == pytest.approx(row["viable_ml"] + row["necrosis_ml"], rel=0.05)


@pytest.mark.slow
def test_clinical_values_and_survival_are_in_the_table(cohort):
    (row,) = cohort.patients[cohort.patients.patient_id == pseudonym(3)].to_dict("records")
    assert (row["albumin"], row["cirrhosis"], row["os_months"], row["os_event"]) == (38.0, "yes", 20.5, 1)
    assert (row["regimen_id"], row["centre"]) == ("haic", "Hospital A")


@pytest.mark.slow
def test_who_was_left_out_is_said_with_the_reason(result):
    left_out = [x for p in result.prepared for x in p.left_out]
    assert {(x.row, x.what) for x in left_out} == {(11, "follow-up"), (10, "patient")}
    assert any("no liver segmentation" in x.reason for x in left_out)


@pytest.mark.slow
def test_nothing_that_is_written_names_a_patient(cohort):
    for path in cohort.folder.rglob("*"):
        assert "SECRET" not in str(path.relative_to(cohort.folder))
        if path.is_file():
            content = path.read_bytes()
            assert b"SECRET" not in content
            assert AFTER.strftime("%Y%m%d").encode() not in content or path.suffix == ".npz"


@pytest.mark.slow
def test_report_says_what_the_cohort_holds(cohort):
    document = json.loads((cohort.folder / "report.json").read_text(encoding="utf-8"))
    assert document["patients_in_cohort"] == 4
    assert document["patients_in_table"] == 5
    assert document["by_regimen"] == {"haic": 1, "tace": 3}
    assert len(document["registration"]) == 4
    assert all(pair["dice"] > 0.9 for pair in document["registration"])
    text = (cohort.folder / "report.md").read_text(encoding="utf-8")
    assert "## Left out" in text
    assert (cohort.folder / "registration.png").stat().st_size > 10_000


@pytest.mark.slow
def test_same_archive_gives_the_same_bytes_with_two_processes(site, cohort, tmp_path):
    again = dataclasses.replace(order(site, tmp_path), workers=2)
    found = prepare_site_cohort(again, QUICK, FEW, lambda _text, _share: None)
    assert found.cohort is not None
    assert found.cohort.info.sha256 == cohort.info.sha256


@pytest.mark.slow
def test_problems_of_table_and_folder_are_listed_before_any_image_is_read(site, tmp_path):
    table = write_table(
        tmp_path / "t.csv",
        [{"patient_id": "SECRET-9", "study_date": "2024-01-01", "treatment_start": "2024-03-01",
          "regimen_id": "tace", "centre": "A"}],
    )  # fmt: skip
    with pytest.raises(TableRefused) as refused:
        prepare_site_cohort(order((site[0], table), tmp_path / "out"), QUICK, FEW, lambda _t, _s: None)
    assert "SECRET" not in str(refused.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_too_few_patients_are_refused_before_any_image_is_read(site, tmp_path):
    with pytest.raises(TrainingDataError, match="5 patients"):
        prepare_site_cohort(order(site, tmp_path), QUICK, SplitSettings(), lambda _text, _share: None)


@pytest.mark.slow
def test_a_cohort_is_never_written_over(site, cohort):
    with pytest.raises(TrainingDataError, match="already"):
        prepare_site_cohort(order(site, cohort.folder), QUICK, FEW, lambda _text, _share: None)


@pytest.mark.slow
def test_check_finds_what_was_changed(cohort, tmp_path):
    import shutil

    folder = tmp_path / "changed"
    shutil.copytree(cohort.folder, folder)
    table = pd.read_csv(folder / "outcomes.csv")
    table.loc[0, "recist11"] = "??"
    table.loc[1, "viable_ml"] = -1.0
    table.loc[2, "months"] += 1.0
    table.to_csv(folder / "outcomes.csv", index=False)
    findings = check_cohort(folder, lambda _text, _share: None).findings
    assert cohort_digest(folder) != cohort.info.sha256
    words = " | ".join(f.what for f in findings)
    for expected in ("digest", "recist11", "viable_ml is missing or negative", "are not those of the images"):
        assert expected in words


@pytest.mark.slow
def test_check_finds_a_damaged_file(cohort, tmp_path):
    import shutil

    folder = tmp_path / "damaged"
    shutil.copytree(cohort.folder, folder)
    (folder / "images" / f"{pseudonym(1)}.npz").write_bytes(b"no archive")
    findings = check_cohort(folder, lambda _text, _share: None).findings
    assert {f.where for f in findings} >= {pseudonym(1), "cohort.json"}


class ByLiver:
    """Tells phases by how bright the image is; nobody described the series."""

    info = BundleInfo("by liver", "1", "0", "simulated")

    def from_image(self, values, grid, modality) -> dict[Phase, float]:
        seen = Phase.PORTAL_VENOUS if float(np.percentile(values, 95)) > 85.0 else Phase.ARTERIAL
        return {p: 0.997 if p is seen else 0.001 for p in CT_PHASES}

    def from_organs(self, organs, modality) -> None:
        return None


def test_phases_of_an_undescribed_archive_are_told_by_its_images(tmp_path):
    write_scan(scan(Scene(1, SHRUNK)), tmp_path, "X", AFTER, description="Abd")
    files = tuple(tmp_path.rglob("*.dcm"))
    without = read_study(files, ClinicalRecord(), SegInStudy(), SegmentationLimits())
    assert without.baseline.phase(Phase.ARTERIAL) is None
    found = read_study(files, ClinicalRecord(), SegInStudy(), SegmentationLimits(), ByLiver())
    levels = [
        float(np.median(found.baseline.phase(p).values()[found.in_full(Tissue.LIVER)]))
        for p in (Phase.ARTERIAL, Phase.PORTAL_VENOUS)
    ]
    assert levels == pytest.approx([68.0, 110.0], abs=3.0)


@pytest.mark.slow
def test_mr_signal_of_another_scale_becomes_the_same_at_both_times(tmp_path):
    """The follow-up was measured with two and a half times the gain; the liver is 1000 in both crops."""
    phases = ("t1_arterial", "t1_portal_venous")
    before = scan(Scene(1, TWO), phases=phases)
    after = scan(Scene(1, SHRUNK), MOVED, phases=phases, origin_mm=(-165.0, -140.0, -90.0))
    louder = {name: (v * 2.5).astype(np.int16) for name, v in after.volumes.items()}
    first = write_scan(before, tmp_path / "a" / "before", "SECRET-1", BEFORE)
    write_scan(dataclasses.replace(after, volumes=louder), tmp_path / "a" / "after", "SECRET-1", AFTER)
    row = {"patient_id": "SECRET-1", "study_instance_uid": first, "treatment_start": "2024-03-01",
           "regimen_id": "tace", "centre": "A"}  # fmt: skip
    table = write_table(
        tmp_path / "t.csv", [row, {"patient_id": "SECRET-1", "study_date": AFTER.isoformat()}]
    )
    (matched,) = match_studies(
        read_site_table(table, ("tace",)), index_archive(tmp_path / "a", lambda _text, _share: None)
    )
    settings = QUICK.model_copy(
        update={"modality": "MR", "registration": QUICK.registration.model_copy(update={"modality": "MR"})}
    )
    found = prepare_patient(PatientTask(matched, "P1", SegInStudy(), settings, tmp_path / "out"))
    assert found.left_out == ()
    with np.load(tmp_path / "out" / "images" / "P1.npz") as stored:
        liver = (stored["liver"] == 255) & (stored["lesion"] == 0) & (stored["0/lesion"] == 0)
        base = stored["images"].astype(np.int32)
        later = base + stored["0/change"]
    for channel in (0, 1):
        seen = liver & (base[channel] > NO_VALUE) & (later[channel] > NO_VALUE)
        assert np.median(base[channel][seen]) == pytest.approx(1000.0, rel=0.02)
        assert np.median(later[channel][seen]) == pytest.approx(1000.0, rel=0.02)
    assert (base[2] == NO_VALUE).all(), "T2 was not acquired"
    (pair,) = found.pairs
    assert pair.quality.dice > 0.9


def test_lipiodol_is_told_by_attenuation_where_only_necrosis_was_drawn(tmp_path):
    tumours = (Tumour((-60.0, 10.0, 8.0), 20.0, lipiodol=0.7), Tumour((15.0, 0.0, -12.0), 12.0, dead=0.5))
    found = scan(Scene(1, tumours), phases=("arterial",))
    write_scan(found, tmp_path, "X", AFTER)
    files = tuple(p for p in tmp_path.rglob("*.dcm"))
    study = read_study(files, ClinicalRecord(), SegInStudy(), SegmentationLimits())
    dense = study.in_full(Tissue.LIPIODOL)
    volume = float(dense.sum()) * found.grid.voxel_ml
    assert volume == pytest.approx(4 / 3 * np.pi * 14.0**3 / 1000, rel=0.25)
    assert study.in_full(Tissue.NECROSIS).any()
    assert float(share_of(dense, found.grid, found.grid).sum()) == pytest.approx(float(dense.sum()), rel=0.01)
