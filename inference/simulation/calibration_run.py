"""Fit the calibration, and report how well it holds on patients that it was not fitted to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from inference.settings import Frozen, Regimen
from inference.simulation.calibration import Calibration, Progress
from inference.simulation.calibration_covariates import covariates
from inference.simulation.calibration_measure import Measured, Row, populations
from inference.simulation.calibration_population import COARSE_MM, anatomies, load_targets
from inference.simulation.calibration_refine import refined
from inference.simulation.calibration_report import write_report
from inference.simulation.parameters import Found, SimulationParameters, parameters_digest

_COVARIATES = 1000
_SECOND, _THIRD = 1000, 2000
"""Added to the seed for the populations of the refinement and of the report."""


class CalibrationOrder(Frozen):
    """How large the populations are, and which."""

    patients: int = Field(100, ge=12, description="a source")
    bodies: int = Field(4, ge=1, description="abdomens that a population shares")
    seed: int = 11


def fit(
    parameters: SimulationParameters,
    regimens: Mapping[str, Regimen],
    order: CalibrationOrder,
    progress: Progress,
) -> Found:
    """Find the calibration on one population and refine it by a second.

    Takes about 7 core-seconds for each patient of `order`.
    """
    bodies = anatomies(order.bodies, order.seed)

    def first(text: str, share: float) -> None:
        progress(text, 0.6 * share)

    run = Calibration.start(parameters, load_targets(), regimens, bodies, order.patients, order.seed, first)
    found = run.run()
    progress("second population", 0.6)
    measured = _measured(parameters.with_found(found), regimens, order, order.seed + _SECOND)
    return refined(found, [*measured.response(), *measured.progression(), *measured.survival()])


def report(
    parameters: SimulationParameters,
    regimens: Mapping[str, Regimen],
    order: CalibrationOrder,
    folder: Path,
    progress: Progress,
) -> tuple[Path, tuple[Row, ...]]:
    """Measure a calibration on other patients than it was fitted to; write table and plots.

    Returns
    -------
    tuple
        The report, and its figures.
    """
    other = order.seed + _THIRD
    progress("another population", 0.0)
    measured = _measured(parameters, regimens, order, other)
    progress("figures", 0.9)
    rows = measured.rows()
    for name, source in parameters.sources.items():
        rows += covariates(name, source, parameters, _COVARIATES, other)
    path = write_report(rows, measured, folder, parameters_digest(), order.patients, COARSE_MM)
    progress("done", 1.0)
    return path, tuple(rows)


def _measured(
    parameters: SimulationParameters, regimens: Mapping[str, Regimen], order: CalibrationOrder, seed: int
) -> Measured:
    targets = load_targets()
    bodies = anatomies(order.bodies, seed)
    members = populations(parameters, targets, order.patients, bodies, seed)
    return Measured(parameters, targets, regimens, members)
