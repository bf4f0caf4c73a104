"""Virtual time points as crops, the form in which the image encoder and radiomics take images."""

from __future__ import annotations

from dataclasses import replace

from inference.models.flow.study import crop_study
from inference.models.outcome.crops import PatientCrop
from inference.results import Baseline, GeneratedTimePoint, Segmentation, SeriesVolume, VirtualImage


def virtual_crop(baseline: Baseline, segmentation: Segmentation, point: GeneratedTimePoint) -> PatientCrop:
    """Return a virtual time point as the models see it: virtual values where there are some.

    Parameters
    ----------
    baseline, segmentation
        Of the study from which the time point was generated.
    """
    images = {image.series_instance_uid: image for image in point.images}
    volumes = tuple(_drawn(v, images.get(v.series_instance_uid)) for v in baseline.volumes)
    seen = replace(baseline, volumes=volumes)
    return crop_study(seen, replace(segmentation, labels=point.labels)).crop


def _drawn(volume: SeriesVolume, image: VirtualImage | None) -> SeriesVolume:
    if image is None:
        return volume
    stored = volume.stored.copy()
    stored[image.box.slices] = image.stored
    return replace(volume, stored=stored)
