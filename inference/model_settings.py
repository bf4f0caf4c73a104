"""Settings of a site's own segmenters, and of the systems whose second opinion a site wants."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from inference.settings import Frozen


class LabelMeaning(StrEnum):
    """What a label of a segmenter shows, as far as this product uses it."""

    LIVER = "liver"
    TUMOUR = "tumour"
    NECROSIS = "necrosis"
    LIPIODOL = "lipiodol"
    LIVER_VESSEL = "liver vessel"
    AORTA = "aorta"
    PORTAL_VEIN = "portal vein"
    KIDNEY = "kidney"
    IGNORED = "ignored"


class SiteSegmenter(Frozen):
    """What all site segmenters have in common.

    Attributes
    ----------
    labels : mapping
        Meaning of each value that the program writes; 0 is background. A value that is not here makes
        the result invalid: write ``ignored`` where a structure is of no use.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9 _.-]{1,48}$", description="shown to people and in reports")
    modalities: tuple[Literal["CT", "MR"], ...] = ("CT",)
    labels: Mapping[int, LabelMeaning]
    time_limit_s: float = Field(600.0, gt=0)
    trained_on: str = Field("unknown", description="written into every result")

    @model_validator(mode="after")
    def _check_labels(self) -> SiteSegmenter:
        if LabelMeaning.LIVER not in self.labels.values():
            raise ValueError("labels: one label must mean liver")
        if any(not 0 < value < 256 for value in self.labels):
            raise ValueError("labels: values are 1 to 255")
        return self


class MonaiBundleSettings(SiteSegmenter):
    """A MONAI bundle: a folder with ``configs/inference.json`` (or .yaml) and weights in ``models/``.

    Its configuration may hold Python expressions, so it is run in a process of its own: install only
    bundles that the site trusts.
    """

    program: Literal["monai"] = "monai"
    folder: Path
    config: str = Field("configs/inference.json", description="inside the folder")
    weights: str = Field("models/model.pt", description=".safetensors, .pt (tensors only) or .ts")
    device: Literal["cpu", "cuda"] = "cpu"


class NnunetSettings(SiteSegmenter):
    """A trained nnU-Net v2 model folder; nnU-Net is installed by the site."""

    program: Literal["nnunet"] = "nnunet"
    folder: Path = Field(description="with dataset.json, plans.json and fold_*")
    folds: tuple[str, ...] = ("all",)
    executable: str = "nnUNetv2_predict_from_modelfolder"
    device: Literal["cpu", "cuda"] = "cpu"


class TotalSegmentatorSettings(Frozen):
    """TotalSegmentator, installed by the site together with its weights; nothing is downloaded.

    The task ``total`` outlines the liver and no tumours; tumours come from a second task where the site
    has its weights and a licence for it.
    """

    program: Literal["totalsegmentator"] = "totalsegmentator"
    name: str = Field("TotalSegmentator", pattern=r"^[A-Za-z0-9 _.-]{1,48}$")
    modalities: tuple[Literal["CT", "MR"], ...] = ("CT", "MR")
    weights_folder: Path | None = Field(None, description="TOTALSEG_WEIGHTS_PATH; its own default if absent")
    fast: bool = Field(False, description="its 3 mm model")
    tumour_task: str | None = Field(None, pattern=r"^[a-z_]{1,32}$", description="such as liver_lesions")
    tumour_class: str = Field("liver_lesions", pattern=r"^[A-Za-z0-9_]{1,48}$")
    executable: str = "TotalSegmentator"
    device: Literal["cpu", "gpu"] = "cpu"
    time_limit_s: float = Field(1200.0, gt=0)


AnySiteSegmenter = Annotated[
    MonaiBundleSettings | NnunetSettings | TotalSegmentatorSettings, Field(discriminator="program")
]


class ModelSettings(Frozen):
    """The site's own segmenters and second opinions.

    Attributes
    ----------
    segmenters : tuple
        The most trusted first; tried before the default of the product.
    second_opinions : tuple of Path
        Folders of bundles that `hepatocast train` wrote, in the order in which they are reported. None
        changes the forecast.
    """

    segmenters: tuple[AnySiteSegmenter, ...] = ()
    second_opinions: tuple[Path, ...] = ()

    @model_validator(mode="after")
    def _check_names(self) -> ModelSettings:
        names = [s.name for s in self.segmenters]
        if len(set(names)) != len(names):
            raise ValueError("two segmenters have the same name")
        if len(set(self.second_opinions)) != len(self.second_opinions):
            raise ValueError("second_opinions: a folder is named twice")
        return self
