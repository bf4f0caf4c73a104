"""The shipped classifier of contrast phases, on abdomens that it was not trained on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from inference.bundle_store import METADATA, seal
from inference.case import Phase
from inference.errors import ModelError
from inference.imaging.phase_evidence import DECIDED
from inference.imaging.phase_features import COARSE_MM, PHASES
from inference.models.phase import PhaseClassifier
from inference.models.phase.classifier import DESCRIPTION, WEIGHTS, network_names
from inference.models.phase.network import Perceptron
from inference.randomness import RandomStreams
from inference.results import Grid
from inference.simulation.acquisition import Scanner
from inference.simulation.anatomy import Anatomy
from inference.training.phase_samples import HeldOutScan, scans_for_test, simulated_anatomy
from tests.builders.model_bundles import variant

OTHERS = RandomStreams(7)
"""Not the seed of the training: other abdomens."""


@pytest.fixture(scope="module")
def classifier() -> PhaseClassifier:
    return PhaseClassifier.from_bundle()


@pytest.fixture(scope="module")
def abdomens() -> list[Anatomy]:
    return [simulated_anatomy(k, OTHERS) for k in range(3)]


def scans(abdomens: list[Anatomy], modality: str, scanner: Scanner) -> list[HeldOutScan]:
    return [
        scan
        for k, abdomen in enumerate(abdomens)
        for scan in scans_for_test(abdomen, modality, scanner, OTHERS.derive("test", modality, scanner, k))
    ]


def grid(shape: tuple[int, int, int]) -> Grid:
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2] = COARSE_MM
    affine[3, 3] = 1.0
    return Grid(shape, affine, "1")


@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize("scanner", list(Scanner))
def test_phases_of_new_abdomens_are_told(classifier, abdomens, modality, scanner):
    """Three of four are right, and of those that are sure enough to be told at most one is wrong."""
    found = scans(abdomens, modality, scanner)
    for look in (
        lambda s: classifier.from_organs(s.organs, modality),
        lambda s: classifier.from_image(s.image, grid(s.image.shape), modality),
    ):
        told = [(s.phase, look(s)) for s in found]
        assert {phase for phase, shares in told if shares is None} <= {Phase.T2}, "echo times tell T2"
        told = [(phase, shares) for phase, shares in told if shares is not None]
        wrong = [shares for phase, shares in told if max(shares, key=shares.get) is not phase]
        assert len(wrong) <= len(found) // 4
        assert sum(max(shares.values()) >= DECIDED for shares in wrong) <= 1


def test_shares_are_of_all_phases_and_add_up(classifier, abdomens):
    for modality in PHASES:
        scan = scans(abdomens, modality, Scanner.STANDARD)[0]
        shares = classifier.from_organs(scan.organs, modality)
        assert tuple(shares) == PHASES[modality]
        assert sum(shares.values()) == pytest.approx(1.0)


def test_what_is_missing_makes_less_sure_and_the_liver_alone_says_nothing(classifier):
    organs = {"liver": 70.0, "liver_vessels": 85.0, "aorta": 290.0, "spleen": 120.0, "kidney_high": 190.0}
    whole = classifier.from_organs(organs, "CT")
    part = classifier.from_organs({"liver": 105.0, "spleen": 125.0}, "CT")
    assert max(whole, key=whole.get) is Phase.ARTERIAL
    assert max(whole.values()) > DECIDED > max(part.values())
    assert classifier.from_organs({"liver": 70.0, "liver_vessels": 85.0}, "CT") is None
    assert classifier.from_organs({"liver": float("nan"), "aorta": 290.0}, "CT") is None


def test_values_that_nobody_has_are_not_judged(classifier, abdomens):
    assert classifier.from_organs({"liver": 2900.0, "aorta": 2950.0}, "CT") is None
    noise = np.random.default_rng(0).normal(300.0, 400.0, (20, 60, 80)).astype(np.float32)
    assert classifier.from_image(noise, grid(noise.shape), "CT") is None


def test_a_real_crop_without_kidneys_and_spine_is_not_judged(classifier, needs_data):
    """A part of a portal venous CT of 128 mm a side: too little to tell a phase by."""
    import SimpleITK as sitk

    path = needs_data("lits117/lits117_img.nii.gz")
    values = sitk.GetArrayFromImage(sitk.DICOMOrient(sitk.ReadImage(str(path)), "LPS"))
    affine = np.eye(4)[[2, 1, 0, 3]]
    assert classifier.from_image(values.astype(np.float32), Grid(values.shape, affine, "1"), "CT") is None


# ------------------------------------------------------------------ bundles


def test_every_network_is_in_the_bundle(classifier):
    assert set(classifier.networks) == set(network_names())
    assert classifier.info.trained_on.startswith("simulated")


@pytest.mark.parametrize("change", ["lost", "misshapen", "renamed"])
def test_a_bundle_with_other_networks_is_refused(tmp_path: Path, change: str):
    folder = variant(tmp_path / "bundle", "phase")
    arrays = load_file(folder / WEIGHTS)
    if change == "lost":
        del arrays["ct_image.bias_2"]
    elif change == "misshapen":
        arrays["ct_image.bias_2"] = arrays["ct_image.bias_2"][:-1]
    else:
        text = (folder / DESCRIPTION).read_text(encoding="utf-8").replace('"arterial"', '"t2"')
        (folder / DESCRIPTION).write_text(text, encoding="utf-8")
    save_file(arrays, folder / WEIGHTS)
    seal(folder, json.loads((folder / METADATA).read_text(encoding="utf-8")))
    with pytest.raises(ModelError, match="networks of the model bundle phase"):
        PhaseClassifier.from_bundle(folder)


def test_a_perceptron_is_a_softmax_over_tanh_by_hand():
    network = Perceptron(
        np.array([1.0, 0.0]), np.array([2.0, 1.0]), np.array([[1.0], [0.5]]), np.array([0.1]),
        np.array([[2.0, -1.0]]), np.array([0.0, 0.3]),
    )  # fmt: skip
    hidden = np.tanh((3.0 - 1.0) / 2.0 * 1.0 + 0.0 * 0.5 + 0.1)
    scores = np.exp(np.array([2.0 * hidden, -hidden + 0.3]))
    found = network.probabilities(np.array([[3.0, np.nan]]))
    np.testing.assert_allclose(found[0], scores / scores.sum())
    assert network.strangeness(np.array([5.0, np.nan])) == 2.0
