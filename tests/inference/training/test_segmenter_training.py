from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from inference.bundle_store import load_metadata
from inference.evaluation.segmentation_cases import SegmentationCase
from inference.models.unet import UnetSegmenter
from inference.models.unet.network import UNet
from inference.models.unet.organs import LiverPart, Organ
from inference.randomness import RandomStreams
from inference.results import Labels
from inference.training.segmenter.cases import CoarseCases, FineCases, prepare
from inference.training.segmenter.contrast import ct_contrast, mr_contrast, paint
from inference.training.segmenter.crops import LIVER, add_tumours, field_of_view, liver_piece, whole_slab
from inference.training.segmenter.label_maps import random_label_map
from inference.training.segmenter.objectives import CoarseObjective, FineObjective, poor_guess
from inference.training.segmenter.scene import SPACING_MM, Label
from inference.training.segmenter.train import SegmenterTraining, train_segmenter


@pytest.fixture(scope="module")
def bank() -> Labels:
    return np.stack([random_label_map(RandomStreams(5).derive("map", k)) for k in range(3)])


def test_label_maps_are_deterministic_and_hold_plausible_livers(bank: Labels) -> None:
    again = random_label_map(RandomStreams(5).derive("map", 1))
    assert np.array_equal(again, bank[1])
    for label_map in bank:
        litres = np.isin(label_map, LIVER).sum() * SPACING_MM**3 / 1e6
        assert 0.3 < litres < 4.0
        for organ in (Label.LUNG, Label.CORTEX, Label.KIDNEY_CORTEX, Label.AORTA, Label.SPLEEN):
            assert (label_map == organ).any()
        # The liver lies on the patient's right: x grows to the left.
        x = np.nonzero(np.isin(label_map, LIVER))[2]
        assert x.mean() < label_map.shape[2] / 2


def test_painted_ct_has_the_attenuation_of_its_contrast(bank: Labels) -> None:
    rng = np.random.default_rng(3)
    torch.manual_seed(3)
    labels = whole_slab(rng, bank[0], 4.0)
    contrast = ct_contrast(rng)
    image = paint(labels, contrast)
    for label in (Label.AIR, Label.MUSCLE):
        found = float(image[labels == int(label)].median())
        assert found == pytest.approx(float(contrast.mean[label]), abs=25.0)


def test_tumours_are_brighter_than_the_liver_in_the_arterial_phase_above_all() -> None:
    rng = np.random.default_rng(1)
    means = np.stack([ct_contrast(rng).mean for _ in range(600)])
    bright = means[:, Label.LESION] > means[:, Label.LIVER] + 10.0
    arterial = means[:, Label.AORTA] > 230.0
    assert bright[arterial].mean() > 0.3
    assert bright[~arterial].mean() < 0.5 * bright[arterial].mean()


def test_mr_contrasts_vary_in_the_order_of_organs() -> None:
    rng = np.random.default_rng(0)
    brighter = [c.mean[Label.SPLEEN] > c.mean[Label.LIVER] for c in (mr_contrast(rng) for _ in range(60))]
    assert 10 < sum(brighter) < 55


def test_added_tumours_stay_in_the_liver(bank: Labels) -> None:
    torch.manual_seed(1)
    labels = liver_piece(np.random.default_rng(1), bank[1], 2.0, (40, 40, 40))
    before = torch.isin(labels, torch.tensor([int(k) for k in LIVER]))
    after = add_tumours(np.random.default_rng(2), labels, 2.0, (0.0, 0.0, 1.0), (30.0, 0.3))
    changed = after != labels
    assert bool(changed.any())
    assert bool(before[changed].all())


def test_guesses_are_wrong_in_the_midst_of_the_liver_and_far_from_it() -> None:
    liver = torch.zeros(40, 40, 40, dtype=torch.bool)
    liver[:, :, :24] = True
    organ = torch.zeros_like(liver)
    organ[:, :, 28:] = True
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    guesses = torch.stack([poor_guess(liver, liver & False, [organ], rng) for _ in range(40)])
    assert float(guesses.min()) >= -1.0
    assert float(guesses.max()) <= 1.0
    inner, outer = guesses[..., 4:16], guesses[..., 34:]
    missed, taken = (inner < 0).float().mean((1, 2, 3)), (outer > 0).float().mean((1, 2, 3))
    assert 0.2 < float((missed > 0.02).float().mean()) < 0.9
    assert 0.1 < float((taken > 0.02).float().mean()) < 0.8
    right = (guesses > 0) == liver
    assert float(right.float().mean()) > 0.7


def test_one_scan_in_three_shows_a_part_of_the_body(bank: Labels) -> None:
    rng = np.random.default_rng(2)
    labels = whole_slab(rng, bank[0], 4.0)
    cuts = [field_of_view(rng, labels) for _ in range(60)]
    narrow = [c for c in cuts if c.shape != labels.shape]
    assert 10 < len(narrow) < 30
    assert all(c.shape[0] == labels.shape[0] and min(c.shape[1:]) >= 38 for c in narrow)


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_pieces_enter_the_networks_and_the_loss_has_gradients(bank: Labels, modality: str) -> None:
    torch.manual_seed(0)
    coarse, fine = UNet(1, len(Organ), (4, 4, 4)), UNet(3, len(LiverPart), (4, 4, 4))
    for objective, network in (
        (CoarseObjective(bank, modality), coarse),
        (FineObjective(bank, modality), fine),
    ):
        image, target = objective.piece(np.random.default_rng(4))
        assert image.shape[2:] == target.shape[1:]
        assert float(image.min()) >= -2.0
        assert float(image.max()) <= 2.0
        loss = objective(network, np.random.default_rng(4))
        torch.autograd.backward(loss)
        assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in network.parameters())


def test_a_sites_own_case_trains_both_networks() -> None:
    rng = np.random.default_rng(0)
    liver = np.zeros((20, 60, 60), bool)
    liver[4:16, 15:45, 10:40] = True
    tumour = np.zeros_like(liver)
    tumour[8:12, 20:30, 20:30] = True
    volume = np.where(tumour, 60.0, np.where(liver, 110.0, -90.0)) + rng.normal(0, 8, liver.shape)
    case = SegmentationCase("a", "CT", volume.astype(np.float32), (5.0, 3.0, 3.0), liver, tumour)
    prepared = prepare(case, 4.0)
    assert prepared.labels.shape == (25, 45, 45)
    assert (prepared.labels == 2).sum() * 4.0**3 == pytest.approx(tumour.sum() * 45.0, rel=0.2)
    torch.manual_seed(0)
    for own, network in (
        (CoarseCases([prepared], "CT"), UNet(1, len(Organ), (4, 4, 4))),
        (FineCases([prepare(case, 2.0)], "CT"), UNet(3, len(LiverPart), (4, 4, 4))),
    ):
        optimiser = torch.optim.Adam(network.parameters(), 0.02)
        losses = []
        for step in range(12):
            torch.manual_seed(step)
            loss = own(network, np.random.default_rng(step % 2))
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            losses.append(float(loss.detach()))
        assert np.mean(losses[-2:]) < np.mean(losses[:2])


@pytest.mark.slow
def test_training_writes_a_bundle_that_the_segmenter_opens(tmp_path: Path) -> None:
    settings = SegmenterTraining(
        modalities=("CT",), label_maps=4, coarse_steps=4, fine_steps=3, validate_every=2, seed=1
    )
    metadata = train_segmenter(settings, tmp_path / "out", tmp_path / "work", lambda _t, _s: None)
    assert metadata["trained_on"].startswith("simulated")
    info, stored = load_metadata(tmp_path / "out")
    assert stored["training"]["ct_coarse"]["steps"] == 4
    segmenter = UnetSegmenter.from_bundle(tmp_path / "out")
    assert segmenter.info == info
    first = (tmp_path / "out" / "models" / "ct_fine.safetensors").read_bytes()
    train_segmenter(settings, tmp_path / "again", tmp_path / "other", lambda _t, _s: None)
    assert first == (tmp_path / "again" / "models" / "ct_fine.safetensors").read_bytes()
