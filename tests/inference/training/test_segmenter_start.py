"""Going on from a bundle: what begins with its weights, what stays, and what is said of both."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from inference.bundle_store import load_metadata
from inference.errors import ModelError, TrainingDataError
from inference.models.unet import UnetSegmenter
from inference.models.unet.segmenter import NetworkSpec
from inference.training.segmenter.start import read_start
from inference.training.segmenter.train import SegmenterTraining, train_segmenter

_TINY = SegmenterTraining(
    modalities=("MR",), label_maps=4, coarse_steps=1, fine_steps=1, validate_every=1, seed=1
)


def test_a_modality_without_a_network_begins_with_that_of_another() -> None:
    start = read_start("segmenter")
    missing = min({"MR", "XA"} - start.segmenter.specs.keys())
    spec = start.segmenter.specs["CT"].coarse
    lent, own = start.weights(missing, "coarse", spec), start.weights("CT", "coarse", spec)
    assert lent.keys() == own.keys()
    assert all(torch.equal(lent[name], own[name]) for name in own)


def test_a_network_that_is_built_otherwise_is_refused() -> None:
    start = read_start("segmenter")
    wider = NetworkSpec(
        file="models/ct_coarse.safetensors", inputs=1, classes=11, widths=(16, 24, 48, 96, 128)
    )
    with pytest.raises(TrainingDataError, match="built otherwise"):
        start.weights("CT", "coarse", wider)


def test_a_bundle_that_is_absent_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model bundle"):
        read_start(tmp_path / "nothing")


def test_a_network_without_steps_is_taken_from_the_start_and_nowhere_else(tmp_path: Path) -> None:
    start = read_start("segmenter")
    fine_alone = _TINY.model_copy(update={"coarse_steps": 0})
    with pytest.raises(TrainingDataError, match="the coarse network for MR has no steps"):
        train_segmenter(fine_alone, tmp_path / "none", tmp_path / "work", lambda _t, _s: None)
    metadata = train_segmenter(
        fine_alone, tmp_path / "out", tmp_path / "work", lambda _t, _s: None, start=start
    )
    assert metadata["training"]["mr_coarse"] == start.metadata["training"]["mr_coarse"]
    assert metadata["training"]["mr_fine"]["steps"] == 1
    for network, same in (("mr_coarse", True), ("mr_fine", False), ("ct_fine", True)):
        file = f"models/{network}.safetensors"
        assert ((tmp_path / "out" / file).read_bytes() == (start.folder / file).read_bytes()) is same
    assert UnetSegmenter.from_bundle(tmp_path / "out").specs["MR"].review


@pytest.mark.slow
def test_what_is_not_trained_again_stays_and_what_was_real_stays_real(tmp_path: Path) -> None:
    start = read_start("segmenter")
    real = replace(start, info=replace(start.info, trained_on="real: 7 segmented cases of the site"))
    metadata = train_segmenter(_TINY, tmp_path / "out", tmp_path / "work", lambda _t, _s: None, start=real)
    assert metadata["trained_on"].startswith("real: 7 segmented cases of the site; then synthetic")
    told = metadata["started_from"]
    assert told["sha256"] == start.info.sha256
    assert told["settings"] == start.metadata["settings"]
    assert told.get("started_from") == start.metadata.get("started_from")
    stored = load_metadata(tmp_path / "out")[1]
    assert stored["training"]["mr_coarse"]["steps"] == 1
    assert stored["training"]["ct_fine"] == start.metadata["training"]["ct_fine"]
    for kept in ("models/ct_coarse.safetensors", "models/ct_fine.safetensors", "docs/ct_fine.csv"):
        assert (tmp_path / "out" / kept).read_bytes() == (start.folder / kept).read_bytes()
    made = UnetSegmenter.from_bundle(tmp_path / "out")
    assert made.covers("MR")
    assert made.specs["MR"].review, "no real MR was seen"
