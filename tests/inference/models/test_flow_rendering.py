"""What becomes of a request that the surroundings of a lesion cannot hold."""

from __future__ import annotations

import numpy as np
import pytest

from inference.case import ClinicalRecord
from inference.models.flow.conditions import Prepared, Request, prepare
from inference.models.flow.rendering import Rendered, Scores, held, in_crop, outgrown
from inference.models.outcome.crops import VOXEL_ML, PatientCrop
from tests.builders.liver_crops import liver_crop

LESION, OTHER = 1, 2
BALLS = ((0.0, 0.0, -14.0, 4.0), (3.0, 4.0, 14.0, 3.0))


@pytest.fixture(scope="module")
def crop() -> PatientCrop:
    return liver_crop(BALLS, side=64)


@pytest.fixture(scope="module")
def prepared(crop: PatientCrop) -> Prepared:
    return prepare(crop, ClinicalRecord(), "CT")


def _drawn(crop: PatientCrop, prepared: Prepared, request: Request) -> Rendered:
    """Return what a network that knows nothing of the outcome gives, held to the request."""
    flat = np.where(prepared.lesion > 0, 1.0, -1.0).astype(np.float32)
    plain = Scores(flat, np.zeros_like(flat), np.zeros_like(flat), prepared.nearest)
    levels = np.zeros((8, *flat.shape), np.float32)
    return in_crop(held(plain, prepared, request), levels, prepared, crop.liver.shape)


def _volumes(rendered: Rendered, crop: PatientCrop, number: int) -> tuple[float, ...]:
    shares = rendered.scores.fractions(crop.liver)[:, rendered.scores.number == number]
    return tuple(float(part.sum()) * VOXEL_ML for part in shares)


def _room_ml(crop: PatientCrop, prepared: Prepared, number: int) -> float:
    return float(prepared.fields[2][prepared.nearest == number].sum()) * VOXEL_ML


def test_what_fits_is_left_as_it_is(crop, prepared) -> None:
    request = Request({LESION: 2.0, OTHER: 1.0}, {LESION: 1.0}, {LESION: 0.5})
    rendered = _drawn(crop, prepared, request)
    assert outgrown(rendered, crop, request) is rendered


def test_a_lesion_goes_on_into_the_liver_around_its_surroundings(crop, prepared) -> None:
    room = _room_ml(crop, prepared, LESION)
    wanted = 1.3 * room
    request = Request({LESION: wanted, OTHER: 1.0}, {}, {})
    before = _drawn(crop, prepared, request)
    assert sum(_volumes(before, crop, LESION)) == pytest.approx(room, rel=1e-3)
    after = outgrown(before, crop, request)
    assert _volumes(after, crop, LESION)[0] == pytest.approx(wanted, rel=0.01)
    assert _volumes(after, crop, OTHER) == pytest.approx(_volumes(before, crop, OTHER))
    tumour = (after.scores.tumour > 0) & (after.scores.number == LESION)
    assert (crop.liver[tumour] > 0).all()


def test_dead_tissue_and_lipiodol_that_found_no_room_grow_on_too(crop, prepared) -> None:
    room = _room_ml(crop, prepared, LESION)
    request = Request({LESION: 0.6 * room, OTHER: 1.0}, {LESION: 0.4 * room}, {LESION: 0.3 * room})
    viable, necrosis, oil = _volumes(outgrown(_drawn(crop, prepared, request), crop, request), crop, LESION)
    assert viable == pytest.approx(0.6 * room, rel=0.02)
    assert necrosis + oil == pytest.approx(0.7 * room, rel=0.02)
    assert oil == pytest.approx(0.3 * room, rel=0.1)


def test_liver_that_is_nearer_to_another_lesion_but_free_of_tumour_is_grown_into(crop, prepared) -> None:
    near_other = _room_ml(crop, prepared, OTHER)
    beyond = float(crop.liver.sum()) * VOXEL_ML - near_other
    request = Request({LESION: beyond + 0.4 * near_other, OTHER: 1.0}, {OTHER: 0.2}, {})
    before = _drawn(crop, prepared, request)
    after = outgrown(before, crop, request)
    assert sum(_volumes(after, crop, LESION)) == pytest.approx(request.viable[LESION], rel=2e-3)
    assert _volumes(after, crop, OTHER) == pytest.approx(_volumes(before, crop, OTHER), abs=0.02)


def test_two_lesions_that_both_lack_room_share_the_free_liver(crop, prepared) -> None:
    near_other = _room_ml(crop, prepared, OTHER)
    beyond = float(crop.liver.sum()) * VOXEL_ML - near_other
    request = Request({LESION: 0.9 * beyond, OTHER: 1.05 * near_other}, {}, {})
    after = outgrown(_drawn(crop, prepared, request), crop, request)
    for number in (LESION, OTHER):
        assert sum(_volumes(after, crop, number)) == pytest.approx(request.viable[number], rel=0.01)


def test_more_than_the_liver_holds_is_cut(crop, prepared) -> None:
    liver_ml = float(crop.liver.sum()) * VOXEL_ML
    request = Request({LESION: 3.0 * liver_ml, OTHER: 1.0}, {}, {})
    after = outgrown(_drawn(crop, prepared, request), crop, request)
    assert float(after.scores.fractions(crop.liver).sum()) * VOXEL_ML <= liver_ml * 1.001
