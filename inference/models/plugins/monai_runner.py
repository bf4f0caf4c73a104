"""Runs one MONAI bundle on one file: python -m inference.models.plugins.monai_runner --help.

A process of its own, because the configuration of a bundle may hold Python expressions. Of the
configuration it uses ``preprocessing``, ``network_def`` (or ``network``), ``inferer`` and
``postprocessing``; loading from disk and saving are done here, so that pytorch-ignite is not needed.
Weights are read as tensors only, never as pickled objects.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from monai.bundle.config_parser import ConfigParser
from monai.data.image_reader import ImageReader
from monai.data.meta_tensor import MetaTensor
from monai.inferers.inferer import SimpleInferer
from monai.transforms.compose import Compose
from monai.transforms.io.array import LoadImage, SaveImage
from monai.transforms.io.dictionary import LoadImaged, SaveImaged
from safetensors.torch import load_file

IMAGE, PREDICTION = "image", "pred"
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


class SimpleItkReader(ImageReader):
    """Reads NIfTI by SimpleITK: an array (x, y, z) and its affine in RAS, as MONAI wants them."""

    def verify_suffix(self, filename: Any) -> bool:
        """Take every file: there is only the one that was written for this run."""
        del filename
        return True

    def read(self, data: Any, **kwargs: Any) -> Any:
        """Read one file."""
        del kwargs
        name = data if isinstance(data, (str, Path)) else next(iter(data))
        return sitk.ReadImage(str(name))

    def get_data(self, img: Any) -> tuple[Any, dict[str, Any]]:
        """Return the array and what MONAI has to know of it."""
        array = np.ascontiguousarray(sitk.GetArrayFromImage(img).T)
        affine = affine_of(img)
        facts = {
            "affine": affine,
            "original_affine": affine.copy(),
            "spatial_shape": np.array(array.shape),
            "original_channel_dim": float("nan"),
            "space": "RAS",
        }
        return array, facts


def affine_of(image: Any) -> Any:
    """Return the affine of an image, (x, y, z) to RAS in mm."""
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return LPS_TO_RAS @ affine


def steps(transforms: Any) -> list[Any]:
    """Return the single transforms of a composed one, without those that save."""
    some = transforms.transforms if isinstance(transforms, Compose) else [transforms]
    return [t for t in some if not isinstance(t, SaveImage | SaveImaged)]


def preprocessed(parser: ConfigParser, image: Path) -> dict[str, Any]:
    """Return the item that the bundle's preprocessing makes of a file."""
    chain = steps(parser.get_parsed_content("preprocessing"))
    for transform in chain:
        if isinstance(transform, LoadImage | LoadImaged):
            transform.register(SimpleItkReader())
    item: dict[str, Any] = Compose(chain)({IMAGE: str(image)})
    return item


def loaded_network(parser: ConfigParser, weights: Path, device: torch.device) -> torch.nn.Module:
    """Return the bundle's network with its weights."""
    if weights.suffix == ".ts":
        scripted: torch.nn.Module = torch.jit.load(str(weights), map_location=device)  # type: ignore[no-untyped-call]
        return scripted.eval()
    key = "network_def" if "network_def" in parser else "network"
    network: torch.nn.Module = parser.get_parsed_content(key).to(device)
    state: Any
    if weights.suffix == ".safetensors":
        state = load_file(weights)
    else:
        state = torch.load(weights, map_location=device, weights_only=True)
    for wrapper in ("state_dict", "model", "network"):
        state = state.get(wrapper, state) if isinstance(state.get(wrapper), dict) else state
    network.load_state_dict(state)
    return network.eval()


def predicted(
    parser: ConfigParser, item: dict[str, Any], network: torch.nn.Module, device: torch.device
) -> Any:
    """Return what the bundle's inferer and postprocessing make of an item: labels, (x, y, z)."""
    inferer = parser.get_parsed_content("inferer") if "inferer" in parser else SimpleInferer()
    with torch.inference_mode():
        scores = inferer(item[IMAGE][None].to(device), network)
    scores = scores[0] if isinstance(scores, tuple | list) else scores
    meta = item[IMAGE].meta if isinstance(item[IMAGE], MetaTensor) else {}
    item[PREDICTION] = MetaTensor(torch.as_tensor(scores[0]).cpu(), meta=meta)
    if "postprocessing" in parser:
        item = Compose(steps(parser.get_parsed_content("postprocessing")))(item)
    labels = torch.as_tensor(item[PREDICTION])
    return (labels[0] if labels.shape[0] == 1 else labels.argmax(dim=0)), item[PREDICTION]


def write(labels: Any, prediction: Any, source: Path, output: Path) -> None:
    """Write labels as NIfTI with the place that the bundle's transforms left them in."""
    array = np.clip(np.rint(np.asarray(labels.cpu(), dtype=np.float64)), 0, 255).astype(np.uint8)
    image: Any = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    affine = LPS_TO_RAS @ np.asarray(getattr(prediction, "affine", affine_of(sitk.ReadImage(str(source)))))
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing([float(s) for s in spacing])
    image.SetOrigin([float(v) for v in affine[:3, 3]])
    image.SetDirection([float(v) for v in (affine[:3, :3] / spacing).ravel()])
    sitk.WriteImage(image, str(output))


def main(arguments: Sequence[str] | None = None) -> int:
    """Segment one file; returns the exit code."""
    options = argparse.ArgumentParser(description=__doc__)
    for name in ("bundle", "config", "weights", "image", "output"):
        options.add_argument(f"--{name}", type=Path, required=True)
    options.add_argument("--device", default="cpu")
    chosen = options.parse_args(arguments)
    sys.path.insert(0, str(chosen.bundle))
    parser = ConfigParser()
    parser.read_config(str(chosen.config))
    parser["bundle_root"] = str(chosen.bundle)
    device = torch.device(chosen.device)
    parser["device"] = device
    item = preprocessed(parser, chosen.image)
    network = loaded_network(parser, chosen.weights, device)
    labels, prediction = predicted(parser, item, network, device)
    write(labels, prediction, chosen.image, chosen.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
