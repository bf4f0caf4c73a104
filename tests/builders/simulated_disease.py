"""One round tumour in a large liver, and patients to go with it."""

from __future__ import annotations

import numpy as np

from inference.models.mechanistic.sampling import smooth_noise
from inference.randomness import RandomStreams
from inference.results import Box
from inference.settings import Regimen
from inference.simulation.course import Course
from inference.simulation.latents import Person, draw_person
from inference.simulation.parameters import SimulationParameters, load_parameters
from inference.simulation.tumours import Disease, Lesion, Seed

STEP_MM = 3.0
UNTREATED = Regimen(id="untreated", name="Untreated", source="simulation")
TACE = Regimen.model_validate(
    {"id": "tace", "name": "TACE", "tace": [{"day": 0}, {"day": 42}], "source": "seed 004"}
)
HAIC = Regimen.model_validate(
    {"id": "haic", "name": "HAIC", "haic_days": [0, 21, 42, 63], "source": "seed 004"}
)


def round_tumour(radius_mm: float, speed: float, core_mm: float = 0.0, nodes: int = 44) -> Disease:
    """Return a sphere in the middle of a cube of liver; its dead core has a radius of `core_mm`."""
    axis = (np.arange(nodes) - (nodes - 1) / 2.0) * STEP_MM
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    distance = np.sqrt(z**2 + y**2 + x**2).astype(np.float32)
    depth = np.asarray(radius_mm - distance, dtype=np.float32)
    rng = np.random.default_rng(0)
    tolerance = smooth_noise(rng, depth.shape, 2.5)
    everywhere = np.ones(depth.shape, bool)
    lesion = Lesion(
        number=1,
        box=Box((0, 0, 0), (nodes, nodes, nodes)),
        depth=depth,
        domain=everywhere,
        core=np.asarray(distance < core_mm, dtype=np.float32),
        tolerance=tolerance,
        deposit=np.ones_like(depth),
        vascularity=np.ones_like(depth),
        speed=speed,
        diameter_mm=2 * radius_mm,
        luck=0.0,
    )
    seeds = tuple(
        Seed(2 + k, 0.15 + 0.2 * k, (6.0 + 4 * k, 6.0, 6.0), (1.0, 1.0, 1.0), 4.0) for k in range(2)
    )
    return Disease(STEP_MM, everywhere, (lesion,), None, seeds)


def person(seed: int = 1, source: str = "seed004_tace") -> Person:
    """Return a patient."""
    return draw_person(source, load_parameters(), RandomStreams(seed))


def course(disease: Disease, parameters: SimulationParameters | None = None, seed: int = 1) -> Course:
    """Return the course of a tumour in a patient."""
    return Course(person(seed), disease, parameters or load_parameters(), RandomStreams(seed))


def with_level(parameters: SimulationParameters, regimen: str, level: float) -> SimulationParameters:
    """Return parameters under which a regimen works better or worse."""
    found = parameters.found
    return parameters.with_found(found.model_copy(update={"intercept": {**found.intercept, regimen: level}}))
