"""A real MONAI bundle: configuration, a small U-Net with weights, run by MONAI in a process of its own."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle.config_parser import ConfigParser
from monai.inferers.inferer import SlidingWindowInferer
from safetensors.torch import save_file

from inference.case import Case
from inference.errors import ModelError, SegmentationMissing
from inference.model_settings import MonaiBundleSettings
from inference.models.plugins.availability import Available, NotAvailable
from inference.models.plugins.monai_bundle import RUNNER_MODULE, MonaiBundle
from inference.models.plugins.monai_runner import main
from inference.models.plugins.nifti import read_labels, write_volume
from inference.models.plugins.table import site_segmenter
from inference.results import Baseline, Labels

CONFIG: dict[str, Any] = {
    "imports": ["$import torch"],
    "device": "cpu",
    "network_def": {
        "_target_": "UNet",
        "spatial_dims": 3,
        "in_channels": 1,
        "out_channels": 3,
        "channels": [4, 8],
        "strides": [2],
        "num_res_units": 1,
    },
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": "image"},
            {"_target_": "EnsureChannelFirstd", "keys": "image"},
            {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
            {"_target_": "Spacingd", "keys": "image", "pixdim": [5.0, 5.0, 6.0], "mode": "bilinear"},
            {
                "_target_": "ScaleIntensityRanged",
                "keys": "image",
                "a_min": -150,
                "a_max": 250,
                "b_min": 0,
                "b_max": 1,
                "clip": True,
            },
        ],
    },
    "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [32, 32, 16], "overlap": 0.25},
    "postprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "Activationsd", "keys": "pred", "softmax": True},
            {
                "_target_": "Invertd",
                "keys": "pred",
                "transform": "@preprocessing",
                "orig_keys": "image",
                "nearest_interp": False,
                "to_tensor": True,
            },
            {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
            {"_target_": "SaveImaged", "keys": "pred", "output_dir": "/nowhere"},
        ],
    },
}


def write_bundle(folder: Path, weights: str = "models/model.pt") -> Path:
    """Write a bundle with random weights, always the same."""
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    (folder / "configs" / "inference.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    with torch.random.fork_rng():
        torch.manual_seed(7)
        network = ConfigParser({"n": CONFIG["network_def"]}).get_parsed_content("n")
    if weights.endswith(".safetensors"):
        save_file(network.state_dict(), folder / weights)
    else:
        torch.save(network.state_dict(), folder / weights)
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("monai") / "bundle")


def settings(folder: Path, **values: Any) -> MonaiBundleSettings:
    known = {"name": "site bundle", "labels": {1: "liver", 2: "tumour"}, "time_limit_s": 280}
    return MonaiBundleSettings.model_validate({"folder": folder, **known, **values})


def test_it_is_available_or_says_what_is_missing(bundle: Path, tmp_path: Path):
    assert isinstance(MonaiBundle(settings(bundle)).available(), Available)
    absent = MonaiBundle(settings(tmp_path / "absent")).available()
    assert isinstance(absent, NotAvailable)
    assert "there is no folder" in absent.reason
    other = MonaiBundle(settings(bundle, weights="models/other.pt")).available()
    assert isinstance(other, NotAvailable)
    assert "weights:" in other.reason


@pytest.fixture(scope="module")
def drawn(bundle: Path, baseline: Baseline, tmp_path_factory: pytest.TempPathFactory) -> Labels:
    """What the bundle makes of the study."""
    return labels_by(MonaiBundle(settings(bundle)), baseline, tmp_path_factory.mktemp("drawn"))


def labels_by(runner: MonaiBundle, baseline: Baseline, work: Path) -> Labels:
    """Run the runner's command line, but in this process: a new one takes long to import MONAI."""
    image, output = work / "image.nii", work / "labels.nii"
    write_volume(baseline.primary.values(), baseline.primary.grid, image)
    arguments = runner.command(image, output)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MONAI's, of readers that are not installed
        patch.setattr(sys, "path", list(sys.path))
        assert main(arguments[arguments.index(RUNNER_MODULE) + 1 :]) == 0
    return read_labels(output, baseline.primary.grid, "site bundle")


def by_hand(baseline: Baseline, network: torch.nn.Module) -> Labels:
    """The bundle's steps without MONAI's transforms: the study's grid has its own axes and 6 mm already."""
    scaled = (np.clip(baseline.primary.values(), -150, 250) + 150) / 400
    ras = torch.as_tensor(np.ascontiguousarray(scaled.transpose(2, 1, 0)[::-1, ::-1]))[None, None]
    with torch.inference_mode():
        scores = SlidingWindowInferer([32, 32, 16], overlap=0.25)(ras.float(), network)
    labels = scores[0].argmax(dim=0).numpy().astype(np.uint8)
    return np.asarray(labels[::-1, ::-1].transpose(2, 1, 0))


def test_the_labels_lie_on_the_grid_and_are_those_of_the_network(bundle: Path, baseline: Baseline, drawn):
    """The bundle's own spacing is the study's here, so that the same can be computed by hand."""
    assert drawn.shape == baseline.primary.grid.shape
    assert len(np.unique(drawn)) > 1, "random weights that say the same everywhere test nothing"
    with torch.random.fork_rng():
        torch.manual_seed(7)
        network = ConfigParser({"n": CONFIG["network_def"]}).get_parsed_content("n").eval()
    assert (drawn == by_hand(baseline, network)).mean() > 0.999


def test_safetensors_give_the_same_as_pt(baseline: Baseline, drawn: Labels, tmp_path: Path):
    other = write_bundle(tmp_path / "bundle", "models/model.safetensors")
    runner = MonaiBundle(settings(other, weights="models/model.safetensors"))
    np.testing.assert_array_equal(labels_by(runner, baseline, tmp_path), drawn)


def test_what_the_network_calls_liver_becomes_the_liver(bundle: Path, case: Case, baseline: Baseline):
    """Random weights draw nonsense; here every label means liver, so that something must come of it."""
    segmenter = site_segmenter(settings(bundle, labels={1: "liver", 2: "liver"}))
    segmenter.check(case)
    found = segmenter.segment(case, baseline)
    assert found.source_sop_instance_uid is None
    assert found.bundle == segmenter.info
    assert found.bundle.name == "site bundle"
    assert (found.labels.tissue > 0).any()


def test_the_digest_follows_weights_and_settings(bundle: Path, tmp_path: Path):
    copy = Path(shutil.copytree(bundle, tmp_path / bundle.name))
    first = site_segmenter(settings(bundle)).info.sha256
    renamed = settings(copy).model_copy(update={"folder": bundle})
    assert site_segmenter(renamed).info.sha256 == first
    assert site_segmenter(settings(bundle, trained_on="real")).info.sha256 != first
    (copy / "models" / "model.pt").write_bytes(b"other")
    assert site_segmenter(settings(copy)).info.sha256 != first


def test_a_bundle_that_takes_too_long_is_an_error(bundle: Path, case: Case, baseline: Baseline):
    with pytest.raises(ModelError, match="did not end within"):
        site_segmenter(settings(bundle, time_limit_s=0.05)).segment(case, baseline)


def test_weights_that_are_pickled_objects_are_not_loaded(bundle: Path, baseline: Baseline, tmp_path: Path):
    """A pickle may hold a program; only tensors are read."""
    other = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    torch.save({"model": Path("/")}, other / "models" / "model.pt")
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        labels_by(MonaiBundle(settings(other)), baseline, tmp_path)


@pytest.mark.slow
def test_a_bundle_that_breaks_is_an_error(bundle: Path, case: Case, baseline: Baseline, tmp_path: Path):
    broken = Path(shutil.copytree(bundle, tmp_path / "broken"))
    (broken / "models" / "model.pt").write_bytes(b"no weights")
    with pytest.raises(ModelError, match="ended with code 1"):
        site_segmenter(settings(broken)).segment(case, baseline)


def test_another_modality_is_left_to_the_next(bundle: Path, case: Case):
    with pytest.raises(SegmentationMissing, match="MR only"):
        site_segmenter(settings(bundle, modalities=["MR"])).check(case)
