from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from inference.bundle_store import seal
from inference.errors import ImplausibleSegmentation, ModelError
from inference.models.unet import UnetSegmenter
from inference.models.unet.lattice import (
    Lattice,
    around,
    between_lattices,
    box_on_grid,
    covering,
    from_lattice,
    to_lattice,
    within,
)
from inference.models.unet.network import UNet, padded
from inference.models.unet.organs import LiverPart, Organ, ct_input
from inference.models.unet.predict import CoarseFinding, FineFinding, liver_share, look_closely
from inference.models.unet.segmenter import NetworkSpec, SegmenterSpec, _on_grid
from inference.results import Box, Grid, Voxels


def _grid(shape: tuple[int, int, int] = (20, 64, 48)) -> Grid:
    """Slices from the head downwards, rows from the back to the front: all that a lattice is not."""
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, 2.0], [0, -2.0, 0], [-5.0, 0, 0]])
    affine[:3, 3] = (-40.0, 60.0, 100.0)
    return Grid(shape, affine, "1.2.3")


def _ball(grid: Grid, centre: tuple[float, float, float], radius: float) -> Voxels:
    index = np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), axis=-1)
    return (np.linalg.norm(grid.to_patient(index) - centre, axis=-1) < radius).astype(np.float32)


def test_a_volume_survives_the_way_to_a_lattice_and_back() -> None:
    grid = _grid()
    ball = _ball(grid, (10.0, 0.0, 50.0), 22.0)
    lattice = covering(grid, 2.0)
    there = to_lattice(ball, grid, lattice, 0.0)
    # Axes of a lattice: towards the head, the back and the left.
    z, y, x = (np.array(lattice.origin_mm)[:, None] + 2.0 * np.array(np.nonzero(there > 0.5))).mean(axis=1)
    assert (x, y, z) == pytest.approx((10.0, 0.0, 50.0), abs=1.0)
    back = from_lattice(there, lattice, grid, Box((0, 0, 0), grid.shape)) > 0.5
    both = 2.0 * np.count_nonzero(back & (ball > 0.5)) / (np.count_nonzero(back) + np.count_nonzero(ball))
    assert both > 0.97


def test_a_box_of_a_lattice_is_found_on_the_grid() -> None:
    grid = _grid()
    lattice = covering(grid, 4.0)
    ball = to_lattice(_ball(grid, (0.0, 0.0, 60.0), 15.0), grid, lattice, 0.0) > 0.5
    corners = np.argwhere(ball)
    box = Box(tuple(corners.min(0)), tuple(corners.max(0) + 1))  # type: ignore[arg-type]
    found = box_on_grid(lattice, box, grid)
    assert found is not None
    inside = from_lattice(ball.astype(np.float32), lattice, grid, found) > 0.5
    everywhere = from_lattice(ball.astype(np.float32), lattice, grid, Box((0, 0, 0), grid.shape)) > 0.5
    assert inside.sum() == everywhere.sum() > 100
    far = Lattice((5000.0, 0.0, 0.0), 4.0, (4, 4, 4))
    assert box_on_grid(far, Box((0, 0, 0), (4, 4, 4)), grid) is None


def test_a_finer_lattice_lies_where_the_coarse_one_does() -> None:
    coarse = Lattice((0.0, 0.0, 0.0), 4.0, (10, 10, 10))
    values = np.zeros(coarse.shape, np.float32)
    values[4:7, 3:6, 5:8] = 1.0
    fine = around(coarse, Box((4, 3, 5), (7, 6, 8)), 6.0, 2.0)
    moved = between_lattices(values, coarse, fine, 0.0)
    middle = np.array(fine.origin_mm) + 2.0 * np.argwhere(moved > 0.5).mean(axis=0)
    assert tuple(middle) == pytest.approx((20.0, 16.0, 24.0), abs=1e-6)


def test_a_finer_lattice_keeps_the_first_and_the_last_slice() -> None:
    grid = _grid((6, 40, 40))
    full = np.ones(grid.shape, np.float32)
    coarse = covering(grid, 4.0)
    everything = Box((0, 0, 0), coarse.shape)
    for fine in (around(coarse, everything, 16.0, 2.0), within(grid, Box((0, 0, 0), grid.shape), 16.0, 2.0)):
        back = from_lattice(to_lattice(full, grid, fine, 0.0), fine, grid, Box((0, 0, 0), grid.shape))
        assert (back > 0.5).all()


def test_lesions_are_outlined_in_a_liver_that_is_known(tmp_path: Path) -> None:
    segmenter = UnetSegmenter.from_bundle(_bundle(tmp_path / "b"))
    assert segmenter.covers("CT")
    assert not segmenter.covers("MR")
    _calls_everything(segmenter.networks["CT"].fine, LiverPart.LESION)
    grid = _grid()
    liver = _ball(grid, (0.0, 0.0, 60.0), 25.0) > 0.5
    found = segmenter.outline(np.zeros(grid.shape, np.float32), grid, "CT", liver, Box((0, 0, 0), grid.shape))
    assert np.array_equal(found, liver)


def test_nothing_is_liver_that_the_first_guess_excludes(tmp_path: Path) -> None:
    """A fine network that calls everything liver spreads over all that was thought possible, no further."""
    networks = UnetSegmenter.from_bundle(_bundle(tmp_path / "b")).networks["CT"]
    _calls_everything(networks.fine, LiverPart.PARENCHYMA)
    grid = _grid()
    lattice = covering(grid, 4.0)
    guess = np.random.default_rng(0).uniform(0.0, 0.2, lattice.shape).astype(np.float32)
    found = look_closely(np.zeros(grid.shape, np.float32), grid, networks, lattice, guess, looks=3)
    assert np.array_equal(liver_share(found.shares) > 0.5, guess >= 0.05)
    assert np.allclose(found.shares.sum(axis=0), 1.0)


def test_on_mr_nothing_doubtful_is_parenchyma_that_is_not_as_bright(tmp_path: Path) -> None:
    """Of all that a network calls parenchyma, the bright third was doubted and is denied."""
    networks = UnetSegmenter.from_bundle(_bundle(tmp_path / "b")).networks["CT"]
    _calls_everything(networks.fine, LiverPart.PARENCHYMA)
    grid = _grid()
    lattice = covering(grid, 2.0)
    guess = np.full(lattice.shape, 0.3, np.float32)
    columns = lattice.shape[2] // 3
    guess[..., :columns] = 0.95
    image = np.random.default_rng(0).normal(100.0, 5.0, grid.shape).astype(np.float32)
    image[..., 2 * grid.shape[2] // 3 :] += 100.0
    middle, last = slice(columns + 4, 2 * columns - 4), slice(2 * columns + 4, None)
    for modality, denied in (("CT", 0.0), ("MR", 1.0)):
        own = replace(networks, modality=modality)
        liver = liver_share(look_closely(image, grid, own, lattice, guess, looks=2).shares) > 0.5
        assert liver[..., :columns].all()
        assert liver[..., middle].mean() > 0.8
        assert 1.0 - liver[..., last].mean() == pytest.approx(denied, abs=0.01)


@pytest.mark.parametrize(
    ("modality", "part", "neck_mm", "kept"),
    [
        ("MR", LiverPart.PARENCHYMA, 8, False),
        ("MR", LiverPart.PARENCHYMA, 20, True),
        ("MR", LiverPart.LESION, 8, True),
        ("CT", LiverPart.PARENCHYMA, 8, True),
    ],
)
def test_on_mr_what_a_narrow_neck_joins_to_the_liver_is_none(tmp_path, modality, part, neck_mm, kept) -> None:
    """Of all that a network calls liver or tumour, a doubted ball hangs on the liver by a neck."""
    networks = UnetSegmenter.from_bundle(_bundle(tmp_path / "b")).networks["CT"]
    _calls_everything(networks.fine, part)
    grid = _grid((60, 40, 40))
    lattice = covering(grid, 2.0)
    z, y, x = np.meshgrid(*(2.0 * (np.arange(n) - n // 2) for n in lattice.shape), indexing="ij")
    off_axis = np.hypot(y, x)
    guess = np.zeros(lattice.shape, np.float32)
    guess[off_axis <= neck_mm / 2] = 0.3
    ball = np.sqrt((z - 30.0) ** 2 + off_axis**2) <= 18.0
    guess[ball] = 0.3
    liver = np.sqrt((z + 30.0) ** 2 + off_axis**2) <= 26.0
    guess[liver] = 0.95
    own = replace(networks, modality=modality)
    image = np.full(grid.shape, 100.0, np.float32)
    found = liver_share(look_closely(image, grid, own, lattice, guess, looks=2).shares) > 0.5
    assert found[liver].mean() > 0.99
    assert found[ball].mean() == pytest.approx(float(kept), abs=0.02)


def test_the_network_takes_any_multiple_and_padding_makes_one() -> None:
    network = UNet(2, 3, (4, 6, 8))
    x = padded(torch.randn(1, 2, 9, 14, 16), 4)
    assert x.shape[2:] == (12, 16, 16)
    assert network(x).shape == (1, 3, 12, 16, 16)


def test_the_ct_window_is_minus_one_to_one() -> None:
    assert ct_input(np.array([-1000.0, 50.0, 900.0], np.float32)) == pytest.approx([-1.0, 0.0, 1.0])


def _calls_everything(fine: UNet, part: LiverPart) -> None:
    with torch.no_grad():
        fine.head.weight.zero_()
        assert fine.head.bias is not None
        fine.head.bias.copy_(torch.eye(len(LiverPart))[part] * 9.0)


def _spec(inputs: int, classes: int, name: str) -> NetworkSpec:
    return NetworkSpec(
        file=f"models/{name}.safetensors", inputs=inputs, classes=classes, widths=(4, 4, 4, 4, 4)
    )


def _bundle(folder: Path) -> Path:
    (folder / "models").mkdir(parents=True)
    torch.manual_seed(0)
    specs = {"coarse": _spec(1, len(Organ), "coarse"), "fine": _spec(3, len(LiverPart), "fine")}
    for spec in specs.values():
        weights = {k: v.half() for k, v in UNet(spec.inputs, spec.classes, spec.widths).state_dict().items()}
        save_file(weights, folder / spec.file)
    networks = {"CT": {k: s.model_dump(mode="json") for k, s in specs.items()}}
    described = {"name": "s", "version": "1", "kind": "segmenter", "format": "unet"}
    seal(folder, described | {"trained_on": "simulated: x", "networks": networks})
    return folder


def test_a_damaged_bundle_is_refused(tmp_path: Path) -> None:
    folder = _bundle(tmp_path / "b")
    assert UnetSegmenter.from_bundle(folder).info.name == "s"
    metadata = json.loads((folder / "metadata.json").read_text())
    metadata["networks"]["CT"]["fine"]["widths"] = [4, 4, 8, 4, 4]
    seal(folder, metadata)
    with pytest.raises(ModelError, match="does not fit"):
        UnetSegmenter.from_bundle(folder)


def test_air_has_no_liver_in_the_field_of_view(tmp_path: Path) -> None:
    segmenter = UnetSegmenter.from_bundle(_bundle(tmp_path / "b"))
    coarse = segmenter.networks["CT"].coarse
    with torch.no_grad():
        coarse.head.weight.zero_()
        assert coarse.head.bias is not None
        coarse.head.bias.copy_(torch.tensor([5.0] + [0.0] * (len(Organ) - 1)))
    with pytest.raises(ImplausibleSegmentation, match="no liver in the field of view"):
        segmenter.segment_volume(np.full((20, 64, 48), -1000.0, np.float32), _grid(), "CT")


def _findings(
    liver: float, tumours: tuple[tuple[int, int, int, int], ...]
) -> tuple[CoarseFinding, FineFinding]:
    """A ball of liver in the middle, with cubes of tumour at (z, y, x) with a side."""
    lattice = covering(_grid(), 2.0)
    centre = np.array(lattice.shape) / 2.0
    index = np.stack(np.meshgrid(*[np.arange(n) for n in lattice.shape], indexing="ij"), axis=-1)
    organ = np.linalg.norm(index - centre, axis=-1) * 2.0 < liver
    shares = np.zeros((len(LiverPart), *lattice.shape), np.float32)
    shares[LiverPart.OUTSIDE] = ~organ
    shares[LiverPart.PARENCHYMA] = organ
    for z, y, x, side in tumours:
        corner = (centre + (z, y, x)).astype(int)
        block = tuple(slice(c, c + side) for c in corner)
        shares[LiverPart.LESION][block] = organ[block]
        shares[LiverPart.PARENCHYMA][block] = 0.0
    nothing = np.zeros(lattice.shape, bool)
    coarse = CoarseFinding(
        lattice,
        np.zeros((len(Organ), *lattice.shape), np.float32),
        nothing.astype(np.uint8),
        nothing,
        0.1,
        1.0,
    )
    image = np.where(shares[LiverPart.LESION] > 0, 60.0, 110.0).astype(np.float32)
    return coarse, FineFinding(lattice, image, shares)


def _limits() -> SegmenterSpec:
    return SegmenterSpec(coarse=_spec(1, 1, "a"), fine=_spec(1, 1, "b"))


def test_lesions_are_objects_numbered_by_size_and_specks_are_none() -> None:
    coarse, fine = _findings(40.0, ((-8, -8, 0, 5), (2, 2, 0, 8), (0, -2, -14, 2)))
    found = _on_grid(fine, coarse, _grid(), _limits())
    sizes = np.bincount(found.lesion.ravel())[1:] * _grid().voxel_ml
    assert len(sizes) == 2
    assert sizes[0] == pytest.approx(8**3 * 0.008, rel=0.3)
    assert sizes[1] == pytest.approx(5**3 * 0.008, rel=0.4)
    assert found.liver[found.lesion > 0].all()
    assert found.liver.sum() * _grid().voxel_ml == pytest.approx(4 / 3 * np.pi * 4.0**3, rel=0.06)


def test_a_liver_of_less_than_50_ml_is_none() -> None:
    coarse, fine = _findings(20.0, ())
    with pytest.raises(ImplausibleSegmentation, match="no liver in the field of view"):
        _on_grid(fine, coarse, _grid(), _limits())


def test_a_lesion_that_does_not_stand_out_is_none() -> None:
    coarse, fine = _findings(40.0, ((0, 0, 0, 8),))
    assert _on_grid(fine, coarse, _grid(), _limits()).lesion.any()
    noise = np.random.default_rng(0).normal(0.0, 40.0, fine.image.shape).astype(np.float32)
    flat = replace(fine, image=np.full(fine.image.shape, 110.0, np.float32) + noise)
    assert not _on_grid(flat, coarse, _grid(), _limits()).lesion.any()
