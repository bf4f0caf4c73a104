from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from inference.bundle_store import seal
from inference.case import Phase
from inference.errors import ModelError
from inference.models.flow.study import crop_study
from inference.models.image_features.encoder import EncoderSettings, ImageEncoder
from inference.models.image_features.inputs import CHANNELS, INPUT_CHANNELS, as_tensor, encoder_input
from inference.models.image_features.measurements import MEASURED, measurements
from inference.models.image_features.time_points import virtual_crop
from inference.models.image_features.vectors import (
    DIMENSION,
    LEARNED,
    NAMES,
    ImageVectors,
    Standard,
    raw_vector,
    write_encoder,
)
from inference.results import GeneratedTimePoint, TimePointKind, Tissue, VirtualImage
from tests.builders.liver_crops import liver_crop
from tests.builders.liver_volumes import baseline, segmented


def _encoder() -> ImageEncoder:
    torch.manual_seed(0)
    settings = EncoderSettings(modality="CT", widths=(8, 8, 16), learned=LEARNED, targets=("a", "b"))
    return ImageEncoder(settings).eval()


@pytest.fixture
def vectors(tmp_path: Path) -> ImageVectors:
    encoder = _encoder()
    crops = [liver_crop(seed=s, arterial_hu=90.0 + 20 * s) for s in range(3)]
    raw = np.stack([raw_vector(encoder, encoder_input(c, "CT"), measurements(c)) for c in crops])
    write_encoder(tmp_path, encoder, Standard.of(raw))
    seal(tmp_path, {"name": "test", "version": "1", "trained_on": "simulated: three crops"})
    return ImageVectors.from_bundle(tmp_path)


def test_input_tells_air_from_what_was_not_acquired() -> None:
    crop = liver_crop()
    images = crop.images.copy()
    images[1] = np.nan
    stored = encoder_input(replace(crop, images=images), "CT")
    assert stored.shape == (len(CHANNELS), 20, 20, 20)
    assert stored.dtype == np.uint8
    assert stored[0].min() >= 1
    assert not stored[1].any()
    tensor = as_tensor(stored[None], "CT")
    assert tensor.shape == (1, INPUT_CHANNELS, 20, 20, 20)
    assert tensor[0, -2].min() == 1.0
    assert tensor[0, -1].max() == 0.0
    assert tensor[0, 1].abs().max() == 0.0


def test_eight_bits_keep_intensities_to_two_hu() -> None:
    crop = liver_crop()
    tensor = as_tensor(encoder_input(crop, "CT")[None], "CT")[0]
    blocks = crop.images[0].reshape(20, 2, 20, 2, 20, 2).mean(axis=(1, 3, 5))
    assert np.abs(tensor[0].numpy() * 80 + 80 - blocks).max() < 2.0


def test_a_vector_has_256_finite_numbers_and_is_the_same_again(vectors: ImageVectors) -> None:
    crops = [liver_crop(), liver_crop(balls=()), liver_crop(side=48)]
    first, second = vectors.image_vectors(crops), vectors.image_vectors(crops)
    assert first.shape == (3, DIMENSION) == (3, len(NAMES))
    assert first.dtype == np.float32
    assert np.isfinite(first).all()
    assert (first == second).all()
    assert (vectors.image_vectors(crops[1:2]) == first[1:2]).all()
    assert vectors.image_vectors([]).shape == (0, DIMENSION)
    assert np.abs(first[0] - first[1]).max() > 0.1


def test_measurements_are_standardised_and_missing_ones_told_by_flags(vectors: ImageVectors) -> None:
    none = liver_crop(balls=())
    measured = measurements(none)
    assert np.isnan(measured[MEASURED.index("contrast_0")])
    assert measured[MEASURED.index("tumour_present")] == 0.0
    vector = dict(zip(NAMES, vectors.image_vectors([none])[0], strict=True))
    assert vector["contrast_0"] == 0.0
    assert vector["tumour_present"] < 0.0 or vectors.standard.sd[MEASURED.index("tumour_present")] == 1.0
    brighter = vectors.image_vectors([liver_crop(arterial_hu=60.0), liver_crop(arterial_hu=180.0)])
    assert brighter[1, MEASURED.index("contrast_0")] > brighter[0, MEASURED.index("contrast_0")]


def test_without_liver_in_view_the_learned_part_is_finite() -> None:
    crop = liver_crop()
    empty = replace(crop, liver=np.zeros_like(crop.liver))
    with torch.no_grad():
        nothing = _encoder()(as_tensor(encoder_input(empty, "CT")[None], "CT"))
    assert torch.isfinite(nothing).all()


def test_a_damaged_bundle_is_refused(vectors: ImageVectors, tmp_path: Path) -> None:
    (tmp_path / "encoder.json").write_text("{}")
    with pytest.raises(ModelError, match="damaged"):
        ImageVectors.from_bundle(tmp_path)
    seal(tmp_path, {"name": "test", "version": "1", "trained_on": "nothing"})
    with pytest.raises(ModelError, match="cannot be read"):
        ImageVectors.from_bundle(tmp_path)


def test_a_virtual_time_point_is_seen_with_its_own_values_and_maps() -> None:
    segmentation = segmented()
    images = baseline(segmentation, (Phase.ARTERIAL, Phase.PORTAL_VENOUS))
    before = crop_study(images, segmentation).crop
    labels = segmentation.labels
    dead = np.where(labels.tissue == Tissue.VIABLE, np.uint8(Tissue.NECROSIS), labels.tissue)
    drawn = []
    for volume in images.volumes:
        stored = volume.stored[labels.box.slices].copy()
        stored[labels.lesion > 0] -= 30
        drawn.append(VirtualImage(volume.series_instance_uid, volume.phase, labels.box, stored))
    shown = replace(labels, tissue=dead.astype(np.uint8))
    point = GeneratedTimePoint(3.0, TimePointKind.SCHEDULED, tuple(drawn), shown, (0.0, 1.0))
    after = virtual_crop(images, segmentation, point)
    assert after.images.shape == before.images.shape
    tumour = before.tumour
    change = (after.images - before.images)[:, tumour]
    step = 30.0 * float(images.volumes[0].slope[0])
    assert np.median(change) == pytest.approx(-step, abs=0.5)
    far = (before.liver >= 1.0) & (before.fractions.sum(axis=0) == 0)
    assert np.abs((after.images - before.images)[:, far]).max() < step / 2
    viable, necrotic, _oil = after.volumes_ml()
    assert viable == 0.0
    assert necrotic == pytest.approx(before.volumes_ml()[0], rel=1e-3)
