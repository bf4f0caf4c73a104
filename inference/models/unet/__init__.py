"""The default segmenter: small 3D U-Nets that were trained on synthetic images of label maps only."""

from inference.models.unet.segmenter import UnetSegmenter

__all__ = ["UnetSegmenter"]
