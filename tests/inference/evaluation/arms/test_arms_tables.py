"""Who is in a table of the arms, from when they are followed, and what each arm is given."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from inference.evaluation.arms.plan import ARMS, Origin
from inference.evaluation.arms.tables import KINDS, LANDMARK, from_landmark, from_treatment, patients_of
from inference.evaluation.predictions.models import Arm
from inference.models.image_features.sequences import ImageKind
from tests.inference.evaluation.arms.planted import FIRST, PLAN, planted

BASELINE, REAL, VIRTUAL = (KINDS.index(str(k)) for k in ImageKind)


@pytest.fixture(scope="module")
def world():
    return planted(60)


def given(table, arm, row):
    """Kinds and months of the images of one patient in one arm."""
    images = table.rows[arm].inputs.images
    here = images.known[row]
    return list(zip(images.kind[row][here].tolist(), images.months[row][here].tolist(), strict=True))


def test_from_treatment_nobody_has_a_real_follow_up(world):
    table = from_treatment(world.cohort, world.seen, PLAN)
    assert table.origin is Origin.TREATMENT
    assert table.ids == world.cohort.ids("test")
    assert set(table.rows) == {Arm.CLINICAL, Arm.BASELINE_IMAGES, Arm.VIRTUAL}
    for row in (0, 1):
        assert given(table, Arm.CLINICAL, row) == []
        assert given(table, Arm.BASELINE_IMAGES, row) == [(BASELINE, 0.0)]
        # Month 1 or 6, and 9, are those of real follow-ups: they would tell who lived so long.
        assert given(table, Arm.VIRTUAL, row) == [(BASELINE, 0.0), (VIRTUAL, 3.0)]
    assert LANDMARK not in table.rows[Arm.CLINICAL].inputs.table


def test_from_the_landmark_only_those_alive_count_and_from_then_on(world):
    table = from_landmark(world.cohort, world.seen, PLAN)
    patients = world.cohort.patients.set_index("patient_id")
    first = dict(zip(patients.index, np.tile(FIRST, 30), strict=True))
    assert set(table.ids) == {p for p in patients.index if patients.os_months[p] > first[p]}
    assert len(table.ids) < 60
    np.testing.assert_array_equal(table.start_months, [first[p] for p in table.ids])
    followed = table.outcomes["os"]
    np.testing.assert_allclose(followed.months, patients.os_months[list(table.ids)] - table.start_months)
    assert followed.known.all()


def test_those_who_progressed_before_the_landmark_have_no_progression_free_survival(world):
    table = from_landmark(world.cohort, world.seen, PLAN)
    patients = world.cohort.patients.set_index("patient_id").loc[list(table.ids)]
    progressed = (patients.pfs_months <= table.start_months).to_numpy()
    assert progressed.any()
    np.testing.assert_array_equal(table.outcomes["pfs"].known, ~progressed)


def test_from_the_landmark_real_and_virtual_images_are_of_the_same_month(world):
    table = from_landmark(world.cohort, world.seen, PLAN)
    assert tuple(table.rows) == ARMS
    for row, patient_id in enumerate(table.ids):
        vectors = world.seen[patient_id].vectors
        for arm, kind, number in (
            (Arm.REAL_FOLLOW_UP, ImageKind.REAL, REAL),
            (Arm.VIRTUAL, ImageKind.VIRTUAL, VIRTUAL),
        ):
            of_kind = vectors.of(kind)
            wanted = of_kind.vectors[of_kind.months == table.start_months[row]]
            assert [k for k, _ in given(table, arm, row)] == [BASELINE, number]
            np.testing.assert_array_equal(table.rows[arm].inputs.images.features[row, 1], wanted[0])


def test_every_arm_knows_the_month_of_the_landmark_and_the_model_files_it_in_one_place(world):
    table = from_landmark(world.cohort, world.seen, PLAN)
    for rows in table.rows.values():
        np.testing.assert_array_equal(rows.inputs.table[LANDMARK], table.start_months)
    assert len({given(table, Arm.REAL_FOLLOW_UP, r)[1][1] for r in range(len(table.ids))}) == 1


def test_a_fixed_landmark_takes_the_last_follow_up_before_it(world):
    table = from_landmark(world.cohort, world.seen, replace(PLAN, landmark_months=10.0))
    patients = world.cohort.patients.set_index("patient_id")
    assert set(table.ids) == {p for p in patients.index if patients.os_months[p] > 10.0}
    np.testing.assert_array_equal(table.start_months, 10.0)
    vectors = world.seen[table.ids[0]].vectors.of(ImageKind.REAL)
    used = table.rows[Arm.REAL_FOLLOW_UP].inputs.images.features[0, 1]
    np.testing.assert_array_equal(used, vectors.vectors[vectors.months == 9.0][0])


def test_an_early_landmark_leaves_out_those_without_a_follow_up_by_then(world):
    table = from_landmark(world.cohort, world.seen, replace(PLAN, landmark_months=2.0))
    assert set(table.ids) <= set(world.cohort.ids("test")[::2])
    assert from_landmark(world.cohort, world.seen, replace(PLAN, landmark_months=0.5)) is None


def test_patients_come_in_the_order_that_is_asked_for(world):
    ids = world.cohort.ids("test")[5:0:-1]
    rows = patients_of(world.cohort, ids)
    wanted = world.cohort.patients.set_index("patient_id").loc[list(ids), "os_months"]
    np.testing.assert_array_equal(rows.outcomes["os"].months, wanted)
