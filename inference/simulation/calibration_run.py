"""Fit the calibration, and report how well it holds on patients that it was not fitted to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from inference.settings import Frozen, Regimen
from inference.simulation.calibration import Calibration, Progress
from inference.simulation.calibration_measure import Measured, Row, covariates, populations
from inference.simulation.calibration_population import COARSE_MM, anatomies, load_targets
from inference.simulation.calibration_report import write_report
from inference.simulation.parameters import Found, SimulationParameters, parameters_digest

_COVARIATES = 1000


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
    """Find the calibration; about 5 core-seconds for each patient of `order`."""
    bodies = anatomies(order.bodies, order.seed)
    run = Calibration.start(
        parameters, load_targets(), regimens, bodies, order.patients, order.seed, progress
    )
    return run.run()


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
    targets = load_targets()
    other = order.seed + 1000
    progress("populations", 0.0)
    bodies = anatomies(order.bodies, other)
    members = populations(parameters, targets, order.patients, bodies, other)
    progress("follow-up under every regimen of a target", 0.6)
    measured = Measured(parameters, targets, regimens, members)
    progress("figures", 0.9)
    rows = measured.rows()
    for name, source in parameters.sources.items():
        rows += covariates(name, source, parameters, _COVARIATES, other)
    path = write_report(rows, measured, folder, parameters_digest(), order.patients, COARSE_MM)
    progress("done", 1.0)
    return path, tuple(rows)
