from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from inference.simulation.anatomy import LIVER_CENTRE_MM, Anatomy, build_anatomy, liver_fraction
from inference.simulation.habitus import Habitus, draw_habitus
from inference.simulation.patient import TYPICAL
from inference.simulation.tissues import Structure

SHAPE = (40, 40, 40)
STEP = (5.4, 5.4, 5.4)
MILLILITRES = float(np.prod(STEP)) / 1000.0


def build(seed: int, habitus: Habitus | None = None) -> Anatomy:
    return build_anatomy(SHAPE, STEP, np.random.default_rng(seed), habitus, LIVER_CENTRE_MM)


@pytest.fixture(scope="module")
def third() -> Anatomy:
    return build(3)


def test_same_generator_gives_the_same_person_on_a_finer_grid(third: Anatomy) -> None:
    coarse = third
    fine = build_anatomy((80, 80, 80), (2.7, 2.7, 2.7), np.random.default_rng(3), None, LIVER_CENTRE_MM)
    averaged = fine.liver.reshape(40, 2, 40, 2, 40, 2).mean(axis=(1, 3, 5))
    assert coarse.habitus == fine.habitus
    assert np.abs(averaged - coarse.liver).mean() < 0.01
    assert fine.liver.sum() * 2.7**3 == pytest.approx(coarse.liver.sum() * 5.4**3, rel=0.03)


def test_seed_decides_the_person(third: Anatomy) -> None:
    one, again, other = third, build(3), build(6)
    assert one.labels.tobytes() == again.labels.tobytes()
    assert one.portal.tobytes() == again.portal.tobytes()
    assert (one.labels != other.labels).mean() > 0.1


def test_liver_is_one_organ_of_adult_size_and_the_crop_loses_little_of_it() -> None:
    volumes = []
    for seed in (0, 1, 3):
        anatomy = build_anatomy((40, 40, 52), STEP, np.random.default_rng(seed), None, LIVER_CENTRE_MM)
        liver = liver_fraction(anatomy)
        assert 0.0 <= liver.min() <= liver.max() <= 1.0
        parts, _ = ndimage.label(liver > 0.5)
        assert np.bincount(parts.ravel())[1:].max() / (liver > 0.5).sum() > 0.97
        volumes.append(liver.sum() * MILLILITRES)
        cut = sum(float(e.sum()) for e in (liver[0], liver[-1], liver[:, 0], liver[:, -1]))
        assert cut < 0.002 * liver.sum()
        assert liver[:, :, 6:-6].sum() > 0.98 * liver.sum()
    assert 1000 < min(volumes) < max(volumes) < 2300
    assert max(volumes) / min(volumes) > 1.05


def test_cirrhosis_enlarges_the_spleen_and_roughens_the_contour() -> None:
    def measured(nodularity: float) -> tuple[float, float]:
        habitus = draw_habitus(np.random.default_rng(8), replace(TYPICAL, nodularity=nodularity))
        anatomy = build(8, habitus)
        liver = anatomy.liver > 0.5
        surface = (liver & ~ndimage.binary_erosion(liver)).sum() / liver.sum() ** (2 / 3)
        return float((anatomy.labels == Structure.SPLEEN).sum()), float(surface)

    healthy, cirrhotic = measured(0.0), measured(1.0)
    assert cirrhotic[0] > 1.3 * healthy[0]
    assert cirrhotic[1] > healthy[1]


def test_ascites_surrounds_the_liver_only_where_there_is_some() -> None:
    dry, wet = (build(4, replace(Habitus(), ascites=a)) for a in (0.0, 0.8))
    assert not (dry.labels == Structure.ASCITES).any()
    fluid = wet.labels == Structure.ASCITES
    assert fluid.sum() * MILLILITRES > 100
    assert (fluid & ndimage.binary_dilation(wet.liver > 0.5, iterations=2)).sum() > 0.3 * fluid.sum()


def test_vessels_lie_in_the_liver_and_the_fat_beside_it(third: Anatomy) -> None:
    anatomy = third
    for _, cover in anatomy.vessels():
        assert 0.0 <= cover.min() <= cover.max() <= 1.0 + 1e-5
        assert (cover * anatomy.liver).sum() * MILLILITRES > 0.3
        solid = np.isin(anatomy.labels, [Structure.SPLEEN, Structure.KIDNEY_CORTEX, Structure.LUNG])
        assert cover[solid & (anatomy.share > 0.99)].max(initial=0.0) == 0.0


@pytest.mark.benchmark
def test_a_crop_is_built_in_two_and_a_half_seconds() -> None:
    import time

    started = time.process_time()
    build_anatomy((96, 96, 96), (2.25, 2.25, 2.25), np.random.default_rng(0), None, LIVER_CENTRE_MM)
    assert time.process_time() - started < 2.5
