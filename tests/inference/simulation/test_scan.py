from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from inference.case import Phase
from inference.results import Box
from inference.simulation.acquisition import Protocol, Scanner, draw_protocols, noise_scale
from inference.simulation.anatomy import LIVER_CENTRE_MM, Anatomy, build_anatomy
from inference.simulation.disease import Appearance, TumourState
from inference.simulation.habitus import Habitus
from inference.simulation.patient import TYPICAL
from inference.simulation.scan import LIPIODOL_CAP_HU, liver_value, scan
from inference.simulation.tissues import (
    CT_PHASES,
    MR_PHASES,
    Blood,
    Structure,
    appearance,
    appearance_table,
    blood,
)

SHAPE = (48, 48, 48)
STEP = (4.5, 4.5, 4.5)
PLAIN = replace(TYPICAL, steatosis=0.0, nodularity=0.0, mosaic_hu=0.0, capsule=0.0)
SHARP = {"in_plane_mm": 0.5, "through_plane_mm": 0.5}


@pytest.fixture(scope="module")
def anatomy() -> Anatomy:
    return build_anatomy(SHAPE, STEP, np.random.default_rng(5), Habitus(), LIVER_CENTRE_MM)


def image(anatomy: Anatomy, state: TumourState | None, phase: Phase, look: Appearance = PLAIN, **how: float):
    protocol = Protocol(phase, noise=0.0, **(SHARP | how))
    return scan(anatomy, state, look, protocol, np.random.default_rng(0))


def ball(anatomy: Anatomy, radius_mm: float = 22.0, kind: str = "viable") -> TumourState:
    """A tumour deep in the liver; `kind` is viable, necrosis or covered with lipiodol."""
    depth = anatomy.liver_depth
    z, y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    field = anatomy.field
    away = np.sqrt(
        (field.z - field.z.flat[z]) ** 2 + (field.y - field.y.flat[y]) ** 2 + (field.x - field.x.flat[x]) ** 2
    )
    share = (np.clip(0.5 + (radius_mm - away) / STEP[0], 0.0, 1.0) * anatomy.liver).astype(np.float32)
    none = np.zeros_like(share)
    return TumourState(
        months=0.0,
        box=Box((0, 0, 0), SHAPE),
        viable=share if kind == "viable" else none,
        necrosis=none if kind == "viable" else share,
        lipiodol=share if kind == "lipiodol" else none,
        vascularity=np.ones_like(share),
        thrombus=none,
        lesion=(share > 0.5).astype(np.uint8),
    )


def parenchyma(anatomy: Anatomy):
    vessels = anatomy.portal + anatomy.hepatic + anatomy.artery
    return (anatomy.liver_depth > 9.0) & (vessels < 0.01)


@pytest.mark.parametrize("phase", CT_PHASES + MR_PHASES)
def test_organs_have_the_values_of_the_table(anatomy, phase) -> None:
    picture = image(anatomy, None, phase)
    table = appearance_table(phase)
    scale = 6.0 if phase in CT_PHASES else 0.05
    assert np.median(picture[parenchyma(anatomy)]) == pytest.approx(table[Structure.LIVER], abs=scale)
    for structure in (Structure.AORTA, Structure.SPLEEN, Structure.FAT):
        pure = (anatomy.over == structure) & (anatomy.share > 0.99)
        assert pure.sum() > 20
        assert np.median(picture[pure]) == pytest.approx(table[structure], abs=4 * scale)


def test_blood_arrives_in_the_arteries_then_the_portal_vein_then_the_liver_veins() -> None:
    native, arterial, portal = CT_PHASES[:3]
    assert blood(Blood.ARTERY, arterial) > blood(Blood.PORTAL, arterial) > blood(Blood.HEPATIC, arterial)
    assert blood(Blood.PORTAL, portal) > blood(Blood.PORTAL, arterial) > blood(Blood.PORTAL, native)
    assert blood(Blood.HEPATIC, portal) > appearance(Structure.LIVER, portal)
    assert blood(Blood.ARTERY, Phase.T1_ARTERIAL) > blood(Blood.PORTAL, Phase.T1_ARTERIAL)


def test_vessels_stand_out_in_the_portal_venous_phase_and_not_before_contrast(anatomy) -> None:
    inside = (anatomy.liver > 0.95) & (anatomy.portal > 0.6)
    tissue = parenchyma(anatomy)
    portal, native = (image(anatomy, None, p) for p in (Phase.PORTAL_VENOUS, Phase.NATIVE))
    assert np.median(portal[inside]) > np.median(portal[tissue]) + 20
    assert np.median(native[inside]) < np.median(native[tissue])


@pytest.mark.parametrize(
    ("phase", "sign"),
    [
        (Phase.ARTERIAL, 1),
        (Phase.PORTAL_VENOUS, -1),
        (Phase.DELAYED, -1),
        (Phase.NATIVE, -1),
        (Phase.T1, -1),
        (Phase.T1_ARTERIAL, 1),
        (Phase.T1_PORTAL_VENOUS, -1),
        (Phase.T2, 1),
    ],
)
def test_tumour_stands_out_with_the_sign_of_the_phase(anatomy, phase, sign) -> None:
    state = ball(anatomy)
    picture = image(anatomy, state, phase)
    solid = state.viable > 0.99
    contrast = np.median(picture[solid]) - np.median(picture[parenchyma(anatomy) & (state.viable == 0)])
    assert sign * contrast > (5.0 if phase in CT_PHASES else 0.1)


def test_contrast_of_a_tumour_is_the_patients_own_and_follows_its_supply(anatomy) -> None:
    state = ball(anatomy)
    solid = state.viable > 0.99
    for contrast in (20.0, 60.0):
        look = replace(PLAIN, arterial_contrast_hu=contrast)
        over = np.median(image(anatomy, state, Phase.ARTERIAL, look)[solid])
        assert over == pytest.approx(appearance(Structure.LIVER, Phase.ARTERIAL) + contrast, abs=3.0)
    starved = replace(state, vascularity=0.2 * state.vascularity)
    full, little = (np.median(image(anatomy, s, Phase.ARTERIAL)[solid]) for s in (state, starved))
    assert full > little + 30


def test_necrosis_takes_up_no_contrast(anatomy) -> None:
    state = ball(anatomy, kind="necrosis")
    solid = state.necrosis > 0.99
    for phase in CT_PHASES:
        assert np.median(image(anatomy, state, phase)[solid]) == pytest.approx(27.0, abs=1.0)
    native, portal = (np.median(image(anatomy, state, p)[solid]) for p in (Phase.T1, Phase.T1_PORTAL_VENOUS))
    assert native == pytest.approx(portal, abs=0.02)


def test_lipiodol_is_dense_on_ct_up_to_a_cap_and_hardly_seen_on_mr(anatomy) -> None:
    dead, covered = ball(anatomy, kind="necrosis"), ball(anatomy, kind="lipiodol")
    solid = dead.necrosis > 0.99
    heavy = replace(covered, lipiodol=20.0 * covered.lipiodol)

    def added(state, phase) -> float:
        return float(np.median((image(anatomy, state, phase) - image(anatomy, dead, phase))[solid]))

    assert added(covered, Phase.ARTERIAL) == pytest.approx(PLAIN.lipiodol_hu, abs=40)
    assert LIPIODOL_CAP_HU * 0.9 < added(heavy, Phase.ARTERIAL) <= LIPIODOL_CAP_HU + 1
    assert added(heavy, Phase.T1) < 0.1 * appearance(Structure.LIVER, Phase.T1)


@pytest.mark.parametrize("phase", [Phase.ARTERIAL, Phase.T2])
def test_states_differ_inside_the_liver_only(anatomy, phase) -> None:
    look = replace(TYPICAL, infiltrative=0.6)
    # Larger than the liver is deep, so that it would come out of it.
    one, two = ball(anatomy, 22.0), ball(anatomy, 70.0)
    protocol = draw_protocols([phase], Scanner.SHIFTED, np.random.default_rng(1))[phase].clean()
    rng = np.random.default_rng(2)
    change = scan(anatomy, two, look, protocol, rng) - scan(anatomy, one, look, protocol, rng)
    assert np.abs(change[anatomy.liver > 0.99]).max() > 5 * protocol.gain * (0.02 if phase is Phase.T2 else 1)
    assert not change[anatomy.liver == 0.0].any()


def test_partial_volume_lies_between_tumour_and_liver(anatomy) -> None:
    whole = ball(anatomy)
    half = replace(whole, viable=0.5 * whole.viable)
    solid = whole.viable > 0.99
    none, some, full = (image(anatomy, s, Phase.ARTERIAL)[solid] for s in (None, half, whole))
    assert np.median((some - none) / (full - none)) == pytest.approx(0.5, abs=0.02)


def test_capsule_is_a_bright_rim_late_and_an_infiltrative_border_has_none(anatomy) -> None:
    state = ball(anatomy)
    rim = (state.viable > 0.2) & (state.viable < 0.8) & parenchyma(anatomy)

    def edge(capsule: float, infiltrative: float) -> float:
        look = replace(PLAIN, capsule=capsule, infiltrative=infiltrative)
        return float(np.mean(image(anatomy, state, Phase.DELAYED, look)[rim]))

    assert edge(1.0, 0.0) > edge(0.0, 0.0) + 5
    assert edge(1.0, 1.0) == pytest.approx(edge(0.0, 1.0), abs=0.1)


def test_steatosis_darkens_the_liver() -> None:
    protocol = Protocol(Phase.NATIVE, 0.0)
    fatty = replace(PLAIN, steatosis=1.0)
    assert liver_value(fatty, protocol) < appearance(Structure.SPLEEN, Phase.NATIVE) - 10
    assert liver_value(PLAIN, protocol) > appearance(Structure.SPLEEN, Phase.NATIVE)


@pytest.mark.parametrize("phase", [Phase.PORTAL_VENOUS, Phase.T1_ARTERIAL])
def test_noise_is_the_only_chance_and_has_the_size_of_the_protocol(anatomy, phase) -> None:
    protocol = draw_protocols([phase], Scanner.STANDARD, np.random.default_rng(4))[phase]
    first, again, other = (
        scan(anatomy, None, PLAIN, protocol, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    clean = scan(anatomy, None, PLAIN, protocol.clean(), np.random.default_rng(3))
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()
    middle = anatomy.body > 0.9
    expected = protocol.noise * noise_scale(protocol.modality, STEP) * protocol.gain
    assert (first - clean)[middle & (anatomy.liver > 0.9)].std() == pytest.approx(expected, rel=0.2)


def test_magnitude_of_air_is_positive_in_mr(anatomy) -> None:
    protocol = Protocol(Phase.T2, noise=0.05, gain=300.0)
    picture = scan(anatomy, None, PLAIN, protocol, np.random.default_rng(1))
    air = (anatomy.labels == Structure.GAS) | (anatomy.labels == Structure.LUNG)
    assert picture.min() >= 0.0
    assert np.median(picture[air]) > 0.3 * 0.05 * 300.0 * noise_scale("MR", STEP)


def test_shifted_scanner_is_noisier_and_earlier() -> None:
    phases = (Phase.ARTERIAL, Phase.PORTAL_VENOUS, Phase.T1_ARTERIAL)
    for seed in range(5):
        standard, shifted = (
            draw_protocols(phases, s, np.random.default_rng(seed))
            for s in (Scanner.STANDARD, Scanner.SHIFTED)
        )
        assert list(standard) == list(phases)
        for phase in phases:
            assert shifted[phase].noise > standard[phase].noise
        assert shifted[Phase.ARTERIAL].timing < standard[Phase.ARTERIAL].timing


def test_an_early_scan_lies_between_two_phases() -> None:
    early = appearance_table(Phase.PORTAL_VENOUS, timing=-0.5)
    middle = (appearance_table(Phase.ARTERIAL) + appearance_table(Phase.PORTAL_VENOUS)) / 2
    assert np.allclose(early, middle, atol=0.1)
