"""Cases and reading sets from DICOM files."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from inference.errors import TrainingDataError
from inference.evaluation.reading_set import ItemOrigin, export_reading_set
from inference.evaluation.reading_sources import items_of_studies
from inference.evaluation.segmentation_cases import LabelValues, find_cases, read_case_volumes
from inference.randomness import RandomStreams
from tests.builders.studies import Phantom, SeriesSpec, Sphere, image, write_series, write_study

PHANTOM = Phantom(shape=(20, 64, 64), spacing_mm=(6.0, 5.0, 5.0))
SMALLER = replace(PHANTOM, tumours=(Sphere((60.0, 150.0, 110.0), 12.0),))


def silent(_text: str, _share: float) -> None:
    return None


def test_a_study_with_a_segmentation_object_is_a_case(tmp_path):
    write_study(tmp_path / "data" / "first", phases=("portal_venous",), phantom=PHANTOM)
    (files,) = find_cases(tmp_path / "data", "CT")
    case = read_case_volumes(files, LabelValues())
    assert (case.name, case.modality) == ("folder 001", "CT")
    assert case.spacing_mm == pytest.approx(PHANTOM.spacing_mm)
    masks = PHANTOM.masks
    tumour = masks["tumour_1"] | masks["tumour_2"]
    np.testing.assert_array_equal(case.tumour, tumour & case.liver)
    np.testing.assert_array_equal(case.liver, masks["liver"] | tumour)
    np.testing.assert_allclose(case.volume, image(PHANTOM, "portal_venous"), atol=0.5)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Two patients; the follow-up of the second has a marker burned into the air."""
    folder = tmp_path_factory.mktemp("archive")

    def burn(values):
        values = values.copy()
        values[:, 1:5, 2:15] = 1200
        return values

    for name, follow_up in (("a", lambda v: v), ("b", burn)):
        spec = SeriesSpec(study=name)
        write_series(folder / name / "before", spec, image(PHANTOM, spec.phase), PHANTOM.spacing_mm)
        after = SeriesSpec(study=name, name="after")
        values = follow_up(image(SMALLER, spec.phase))
        write_series(folder / name / "after", after, values, PHANTOM.spacing_mm)
    return folder


@pytest.fixture
def studies(archive):
    table = archive / "items.csv"
    table.write_text(
        "baseline,follow_up,origin,regimen,months,z_mm\n"
        "a/before,a/after,real,tace,3,0\n"
        "b/before,b/after,virtual,tace,3,0\n",
        encoding="utf-8",
    )
    return table


def test_a_burned_in_marker_does_not_tell_what_is_virtual(studies, tmp_path):
    real, virtual = items_of_studies(studies, silent)
    assert (real.origin, virtual.origin) == (ItemOrigin.REAL, ItemOrigin.VIRTUAL)
    np.testing.assert_array_equal(real.rows, virtual.rows)
    assert real.rows.shape[:2] == (2, 3)
    assert not np.allclose(real.rows[0], real.rows[1])
    sheets = export_reading_set((real, virtual), tmp_path / "set", tmp_path / "key.csv", RandomStreams(0))
    assert len(sheets) == 3
    pictures = [p.read_bytes() for p in (tmp_path / "set" / "pictures").iterdir()]
    assert pictures[0] == pictures[1]


def test_the_slice_that_was_asked_for_is_in_the_middle(studies):
    """What differs between baseline and follow-up is the tumour of that slice; the noise is the same."""
    item = items_of_studies(studies, silent)[0]
    differs = image(PHANTOM, "portal_venous") != image(SMALLER, "portal_venous")
    expected = differs.sum(axis=(1, 2))
    origin = 10  # slices of 6 mm from -60 mm
    assert len({int(n) for n in expected[[origin - 2, origin, origin + 2]]}) == 3
    changed = [int((np.abs(item.rows[0, k] - item.rows[1, k]) > 1e-4).sum()) for k in range(3)]
    assert changed == expected[[origin - 2, origin, origin + 2]].tolist()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("a/before,a/after,perhaps,tace,3,", "row 2: the origin is neither real nor virtual"),
        ("a/before,a/absent,real,tace,3,", "row 2: there is no DICOM series in absent"),
        ("a/before,a/after,real,tace,3,high", "row 2: could not convert"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(studies, line, reason):
    header = "baseline,follow_up,origin,regimen,months,z_mm\n"
    studies.write_text(header + line + "\n", encoding="utf-8")
    with pytest.raises(TrainingDataError, match=reason):
        items_of_studies(studies, silent)


def test_a_table_without_a_column_is_refused(studies):
    studies.write_text("baseline,follow_up,origin\n", encoding="utf-8")
    with pytest.raises(TrainingDataError, match="lacks the columns regimen, months"):
        items_of_studies(studies, silent)
