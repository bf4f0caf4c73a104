"""What the two networks of the default segmenter are asked in one training step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.models.unet.organs import (
    COARSE_SPACING_MM,
    FINE_SPACING_MM,
    LiverPart,
    Organ,
    ct_input,
    mr_input,
    relative_input,
    relative_scale,
)
from inference.results import Labels, Voxels
from inference.training.segmenter.contrast import (
    blurred,
    ct_contrast,
    ct_shading,
    mr_contrast,
    paint,
    smooth_field,
)
from inference.training.segmenter.crops import (
    LIVER,
    add_tumours,
    field_of_view,
    in_liver,
    liver_piece,
    whole_slab,
)
from inference.training.segmenter.scene import Label

_ORGAN_OF: Mapping[Organ, tuple[Label, ...]] = {
    Organ.LIVER: LIVER,
    Organ.SPLEEN: (Label.SPLEEN,),
    Organ.KIDNEY: (Label.KIDNEY_CORTEX, Label.KIDNEY_MEDULLA, Label.KIDNEY_SINUS),
    Organ.VISCUS: (
        Label.STOMACH_WALL,
        Label.STOMACH_CONTENT,
        Label.GAS,
        Label.BOWEL_WALL,
        Label.BOWEL_CONTENT,
        Label.COLON_CONTENT,
        Label.GALLBLADDER,
        Label.PANCREAS,
        Label.ADRENAL,
    ),
    Organ.BONE: (Label.CORTEX, Label.MARROW, Label.CANAL, Label.DISC),
    Organ.LUNG: (Label.LUNG,),
    Organ.HEART: (Label.HEART,),
    Organ.AORTA: (Label.AORTA,),
    Organ.VEIN: (Label.CAVA, Label.OUTER_VEIN),
    Organ.SOFT_TISSUE: (Label.FAT, Label.MUSCLE, Label.CAVITY_FAT, Label.ASCITES),
}
_PART_OF: Mapping[LiverPart, tuple[Label, ...]] = {
    LiverPart.PARENCHYMA: (Label.LIVER,),
    LiverPart.LESION: (Label.LESION, Label.NECROSIS),
    LiverPart.VESSEL: (Label.PORTAL_VEIN, Label.HEPATIC_VEIN),
}
_TUMOUR = torch.tensor([int(Label.LESION), int(Label.NECROSIS)])
_SOFT = (
    Label.MUSCLE,
    Label.HEART,
    Label.SPLEEN,
    Label.KIDNEY_CORTEX,
    Label.KIDNEY_MEDULLA,
    Label.STOMACH_WALL,
    Label.STOMACH_CONTENT,
    Label.BOWEL_WALL,
    Label.BOWEL_CONTENT,
    Label.GALLBLADDER,
    Label.PANCREAS,
    Label.CAVA,
    Label.OUTER_VEIN,
    Label.ADRENAL,
    Label.ASCITES,
)
_BESIDE: Mapping[str, tuple[Label, ...]] = {"CT": _SOFT, "MR": (*_SOFT, Label.CAVITY_FAT, Label.FAT)}
"""What coarse networks take for liver."""
_ORGAN_WEIGHTS = (0.5, 2.0, 1.5, 1.5, 1.0, 1.0, 0.7, 1.0, 1.5, 1.2, 0.6)
_PART_WEIGHTS = (1.0, 1.0, 2.0, 1.2)
FINE_SHAPE = (48, 56, 56)
"""Voxels of a piece that the fine network is trained on."""


def _classes(of: Mapping[Organ, tuple[Label, ...]] | Mapping[LiverPart, tuple[Label, ...]]) -> Tensor:
    table = torch.zeros(len(Label), dtype=torch.long)
    for target, labels in of.items():
        table[[int(k) for k in labels]] = int(target)
    return table


def network_input(image: Tensor, modality: str, rng: np.random.Generator) -> Tensor:
    """Return what the network sees, with the window and the gamma shaken."""
    values: Voxels = image.numpy()
    if modality == "CT":
        shaken = (values - rng.normal(0.0, 6.0)) * rng.normal(1.0, 0.02)
        return torch.from_numpy(ct_input(np.asarray(shaken, dtype=np.float32)))
    scaled = (torch.from_numpy(mr_input(values)) + 1.0) / 2.0
    return scaled ** float(np.exp(rng.normal(0.0, 0.2))) * 2.0 - 1.0


def weighted_loss(scores: Tensor, target: Tensor, weights: Sequence[float], dice_of: Sequence[int]) -> Tensor:
    """Weighted cross-entropy plus one minus soft Dice of some classes that are there."""
    scores = scores.float()
    loss = functional.cross_entropy(scores, target, weight=torch.tensor(weights, device=scores.device))
    share = scores.softmax(1)
    terms = []
    for k in dice_of:
        truth = (target == k).float()
        if truth.sum() > 20:
            both = (share[:, k] * truth).sum()
            terms.append(1.0 - 2.0 * both / (share[:, k].sum() + truth.sum() + 1.0))
    return loss + torch.stack(terms).mean() if terms else loss


@dataclass(frozen=True, slots=True)
class CoarseObjective:
    """All organs on a slab of the body at 4 mm."""

    bank: Labels
    modality: str

    def piece(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return the input (1, 1, z, y, x) and the classes (1, z, y, x)."""
        label_map = self.bank[int(rng.integers(len(self.bank)))]
        labels = field_of_view(rng, whole_slab(rng, label_map, COARSE_SPACING_MM))
        labels = add_tumours(rng, labels, COARSE_SPACING_MM, (0.5, 0.2, 0.2, 0.1), (50.0, 0.5))
        contrast = ct_contrast(rng) if self.modality == "CT" else mr_contrast(rng)
        image = network_input(paint(labels, contrast), self.modality, rng)
        return image[None, None], _classes(_ORGAN_OF)[labels][None]

    def __call__(self, model: nn.Module, rng: np.random.Generator) -> Tensor:
        """Return the loss of a model on one piece."""
        image, target = self.piece(rng)
        device = next(model.parameters()).device
        dice_of = [int(k) for k in (Organ.LIVER, Organ.SPLEEN, Organ.KIDNEY, Organ.VISCUS, Organ.AORTA)]
        return weighted_loss(model(image.to(device)), target.to(device), _ORGAN_WEIGHTS, dice_of)


@dataclass(frozen=True, slots=True)
class FineObjective:
    """Liver, lesions and vessels on a piece at 2 mm, given a poor guess of the liver."""

    bank: Labels
    modality: str

    def piece(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return the input (1, 3, z, y, x) and the classes (1, z, y, x)."""
        label_map = self.bank[int(rng.integers(len(self.bank)))]
        labels = liver_piece(rng, label_map, FINE_SPACING_MM, FINE_SHAPE)
        if rng.random() < 0.4:
            labels[torch.isin(labels, _TUMOUR)] = int(Label.LIVER)
        labels = add_tumours(rng, labels, FINE_SPACING_MM, (0.3, 0.3, 0.2, 0.1, 0.1), (30.0, 0.6))
        contrast = ct_contrast(rng) if self.modality == "CT" else mr_contrast(rng)
        values = paint(labels, contrast)
        if self.modality == "CT":
            values = values + ct_shading(FINE_SHAPE, rng)
        liver = float(contrast.mean[Label.LIVER]) + rng.normal(0.0, 5.0)
        relative = relative_input(values.numpy(), liver, relative_scale(self.modality, liver))
        channels = [
            network_input(values, self.modality, rng),
            torch.from_numpy(relative),
            poor_guess(
                in_liver(labels),
                torch.isin(labels, _TUMOUR),
                [labels == int(k) for k in _BESIDE[self.modality]],
                rng,
            ),
        ]
        return torch.stack(channels)[None], _classes(_PART_OF)[labels][None]

    def __call__(self, model: nn.Module, rng: np.random.Generator) -> Tensor:
        """Return the loss of a model on one piece."""
        image, target = self.piece(rng)
        device = next(model.parameters()).device
        dice_of = [int(k) for k in (LiverPart.PARENCHYMA, LiverPart.LESION)]
        return weighted_loss(model(image.to(device)), target.to(device), _PART_WEIGHTS, dice_of)


def poor_guess(liver: Tensor, tumour: Tensor, beside: Sequence[Tensor], rng: np.random.Generator) -> Tensor:
    """Return what a coarse network may say of the liver, -1 to 1.

    It doubts tumours and pieces of the liver, takes pieces of what lies beside it for liver, and is unsure
    at its border. Where errors stay near the border, the fine network learns to believe what it is told: on
    a development CT it then made .80 of a guess whose Dice was .73, and .99 of the truth.

    Parameters
    ----------
    liver, tumour : array of bool, (z, y, x)
    beside : arrays of bool, (z, y, x)
        Tissues that may be taken for liver.
    """
    z, y, x = liver.shape
    shape = (z, y, x)
    called = liver.float()
    if rng.random() < 0.6:
        doubted = smooth_field(shape, 8.0) > float(rng.uniform(-1.5, 1.0))
        called[tumour & doubted] = float(rng.uniform(0.0, 0.4))
    if rng.random() < 0.75:
        doubted = smooth_field(shape, float(rng.uniform(6.0, 20.0))) > float(rng.uniform(-0.3, 1.8))
        called[doubted & (called > 0.5)] = float(rng.uniform(0.0, 0.4))
    if rng.random() < 0.6:
        taken = [mask for mask in beside if rng.random() < 0.5] or beside[:1]
        reached = smooth_field(shape, float(rng.uniform(6.0, 20.0))) > float(rng.uniform(0.0, 1.5))
        share = float(rng.uniform(0.6, 1.0))
        for mask in taken:
            called[mask & reached] = share
    wave = smooth_field(shape, 8.0) * float(rng.uniform(0.0, 0.45)) + float(rng.normal(0.0, 0.08))
    soft = blurred(called, float(rng.uniform(1.0, 2.5)))
    steep = float(rng.uniform(4.0, 14.0))
    guess: Tensor = torch.sigmoid(steep * (soft - 0.5 + wave * (1.0 - (2.0 * soft - 1.0).abs() * 0.6)))
    return guess * 2.0 - 1.0
