"""A site's own CT studies with a liver mask, as volume files and as DICOM, from a scene of formulas."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from tests.builders.site_archive import SPACING_MM, Scan, Scene, Tumour, scan, write_scan

LIVER, OWN_TUMOUR = 1, 2
OWN = (Tumour((-60.0, 10.0, 8.0), 20.0),)


@functools.cache
def a_scan(
    seed: int = 1, own: tuple[Tumour, ...] = (), phases: tuple[str, ...] = ("arterial", "portal_venous")
) -> Scan:
    """Return a scan of a liver with vessels and, if wanted, tumours of its own; not to be changed."""
    return scan(Scene(seed, own), phases=phases)


def labels_of(found: Scan) -> np.ndarray:
    """Return 0, 1 for liver, 2 for its own tumours."""
    return np.where(found.tumour > 0, OWN_TUMOUR, np.where(found.liver, LIVER, 0)).astype(np.uint8)


def write_volume(values: np.ndarray, path: Path) -> Path:
    """Write (z, y, x) with z towards the head as a volume file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(values)
    image.SetSpacing(SPACING_MM[::-1])
    sitk.WriteImage(image, str(path))
    return path


def write_volume_study(folder: Path, found: Scan, phase: str = "portal_venous") -> None:
    """Write image and label of one phase, as a folder of a case has them."""
    write_volume(found.volumes[phase], folder / "image.nii.gz")
    write_volume(labels_of(found), folder / "label.nii.gz")


def write_dicom_study(folder: Path, found: Scan, patient_id: str) -> None:
    """Write all phases with a segmentation object, which has tumours where the scan has."""
    write_scan(found, folder, patient_id, dt.date(2024, 2, 20))


def write_table(folder: Path, scans: dict[str, Scan]) -> None:
    """Write volume files of several phases, and the table that names them."""
    rows = ["case,image,label,modality,phase"]
    for name, found in scans.items():
        label = write_volume(labels_of(found), folder / f"{name}_label.nii.gz")
        for phase, values in found.volumes.items():
            image = write_volume(values, folder / f"{name}_{phase}.nii.gz")
            rows.append(f"{name},{image.name},{label.name},CT,{phase}")
    (folder / "cases.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def without_liver(found: Scan) -> Scan:
    """Return the scan with an empty mask."""
    nothing = np.zeros_like(found.liver)
    return dataclasses.replace(found, liver=nothing, tumour=nothing.astype(np.uint8))


def small_liver(found: Scan) -> Scan:
    """Return the scan with a mask of a few slices."""
    liver = found.liver.copy()
    liver[:20] = False
    liver[22:] = False
    return dataclasses.replace(found, liver=liver)
