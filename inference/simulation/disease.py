"""What a simulated patient has: latent traits, the look of the tissue, and tumours as fields.

The anatomy (`inference.simulation.anatomy`) knows nothing of tumours; the course of the disease
(`inference.simulation.course`) moves the fields; the scanner (`inference.simulation.scan`) draws both.
"""

from __future__ import annotations

from dataclasses import dataclass

from inference.results import Box, Labels, Voxels


@dataclass(frozen=True, slots=True)
class Latents:
    """Traits that drive both images and survival; standard normal in the population of a source."""

    aggressiveness: float
    vascularity: float
    liver_reserve: float
    immunogenicity: float


@dataclass(frozen=True, slots=True)
class Appearance:
    """How the tissue of one patient looks; contrasts are over the patient's own liver.

    Attributes
    ----------
    arterial_contrast_hu, portal_contrast_hu, delayed_contrast_hu : viable tumour, before its mosaic
    mosaic_hu : deviation of viable tumour over 3 to 10 mm
    capsule : 0 to 1, strength of the rim that enhances late
    steatosis : 0 to 1, fat in the liver
    nodularity : 0 to 1, cirrhosis: nodular contour and parenchyma, large spleen, wide fissures
    ascites : 0 to 1
    lipiodol_hu : attenuation added by one typical deposit (median 283 over the liver)
    infiltrative : 0 to 1, blurred borders
    """

    arterial_contrast_hu: float
    portal_contrast_hu: float
    delayed_contrast_hu: float
    mosaic_hu: float
    capsule: float
    steatosis: float
    nodularity: float
    ascites: float
    lipiodol_hu: float
    infiltrative: float


@dataclass(frozen=True, slots=True)
class TumourState:
    """All tumours of a patient at one time, in a box of the anatomy's grid.

    Attributes
    ----------
    viable, necrosis : array of float32, shape of the box
        Shares of the voxel, together at most 1; the rest is liver. `necrosis` holds what was dead
        before treatment and what treatment killed and the body has not cleared.
    lipiodol : array of float32
        Deposit in typical deposits, 0 and up.
    vascularity : array of float32
        Arterial supply of viable tumour, 1 being that of the patient's typical tumour.
    thrombus : array of float32
        Share of the voxel that is tumour thrombus in the portal vein (part of `viable`).
    lesion : array of uint8
        0, or the number of the tumour that holds most of the voxel; numbers above those of the
        baseline are new lesions. A voxel belongs to a lesion where its tumour share exceeds 1/2.
    """

    months: float
    box: Box
    viable: Voxels
    necrosis: Voxels
    lipiodol: Voxels
    vascularity: Voxels
    thrombus: Voxels
    lesion: Labels
