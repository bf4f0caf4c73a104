"""Forecasts of the arms for patients that their survival models were not fitted to.

Within the test patients by cross-validation: every arm is fitted on the same folds with the same seeds, and
everything is learned and tuned inside the fold. External patients are forecast by the models that are
fitted to all test patients. Forecasts of different folds are pooled, so the risk is absolute: the
logarithm of the cumulative hazard to 36 months, which models of different folds state on one scale.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from inference.errors import TrainingDataError
from inference.evaluation.arms.plan import ArmsPlan, Origin
from inference.evaluation.arms.tables import ArmTable
from inference.evaluation.predictions.models import Arm
from inference.evaluation.splits import stratified_folds
from inference.models.protocols import Progress
from inference.models.survival.fitted import Inputs
from inference.randomness import RandomStreams
from inference.results import FloatArray
from inference.training.cohort import Split
from inference.training.kept_work import claim
from inference.training.processes import in_order
from inference.training.survival.fit import SurvivalSettings, fit_survival
from inference.training.survival.rows import SurvivalRows

MONTHS = tuple(float(m) for m in range(3, 61, 3))
"""Months of the forecasts, from the origin of the table."""
RISK_MONTH = 36.0
_LEAST_OF_FOLD = 2
"""Events that each fold must be able to hold."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """Forecasts of one end point for n patients.

    Attributes
    ----------
    risk : array, (n,)
        Logarithm of the cumulative hazard to `RISK_MONTH`.
    survival : array, (n, m)
        At `MONTHS`.
    """

    risk: FloatArray
    survival: FloatArray


Forecasts = Mapping[str, Forecast]
"""By end point."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One table of one set of patients with the forecasts of its arms.

    Attributes
    ----------
    set_name : str
        ``test``, or ``external-`` and the name of the cohort.
    """

    set_name: str
    table: ArmTable
    forecasts: Mapping[Arm, Forecasts]


@dataclass(frozen=True, slots=True)
class Fit:
    """One model that is fitted, and whom it forecasts.

    Attributes
    ----------
    name : str
        Of the file that keeps its forecasts.
    """

    name: str
    rows: SurvivalRows
    others: tuple[Inputs, ...]
    settings: SurvivalSettings
    seed: int

    def __call__(self) -> tuple[Forecasts, ...]:
        """Return the forecasts for each of the others."""
        model = fit_survival(self.rows, self.settings, RandomStreams(self.seed), _quiet).model
        exposure = model.grid.exposure([RISK_MONTH])[0]
        return tuple(
            {
                end_point: Forecast(
                    np.log(np.exp(model.log_hazards(end_point, inputs)) @ exposure),
                    model.survival(end_point, inputs, MONTHS),
                )
                for end_point in model.endpoints
            }
            for inputs in self.others
        )


def _run(fit: Fit) -> tuple[Forecasts, ...]:
    return fit()


def _quiet(_text: str, _share: float) -> None:
    pass


def folds_of(table: ArmTable, plan: ArmsPlan) -> tuple[np.ndarray, ...]:
    """Return the folds of a table, stratified by time and event of death; the same for every arm.

    Raises
    ------
    TrainingDataError
        There are too few events of an end point to learn from.
    """
    for name, followed in table.outcomes.items():
        events = int((followed.event & followed.known).sum())
        if events < _LEAST_OF_FOLD * plan.folds:
            raise TrainingDataError(
                f"{len(table.ids)} patients with {events} events of {name.upper()} are too few for "
                f"{plan.folds} folds"
            )
    followed = table.outcomes["os"]
    rng = RandomStreams(plan.seed).derive("folds of the arms", str(table.origin))
    months = np.where(followed.known, followed.months, 0.0)
    return stratified_folds(months, followed.event & followed.known, plan.folds, rng)


def fits_of(table: ArmTable, external: Sequence[ArmTable], plan: ArmsPlan) -> dict[tuple[Arm, int], Fit]:
    """Return the models of each arm: one a fold, and one of all patients, of number -1, for other sets."""
    folds = folds_of(table, plan)
    everybody = np.arange(len(table.ids))
    found: dict[tuple[Arm, int], Fit] = {}
    for arm, rows in table.rows.items():
        for number, held_out in enumerate(folds):
            kept = np.setdiff1d(everybody, held_out)
            name, seed = f"{table.origin}_{arm}_{number}", plan.seed + number
            fit = Fit(name, _some(rows, kept), (rows.inputs.of(held_out),), plan.survival, seed)
            found[arm, number] = fit
        if external:
            others = tuple(other.rows[arm].inputs for other in external)
            found[arm, -1] = Fit(f"{table.origin}_{arm}_all", rows, others, plan.survival, plan.seed)
    return found


def _some(rows: SurvivalRows, patients: np.ndarray) -> SurvivalRows:
    outcomes = {name: followed.of(patients) for name, followed in rows.outcomes.items()}
    split = np.full(len(patients), Split.TRAIN.value)
    return replace(rows, inputs=rows.inputs.of(patients), outcomes=outcomes, split=split)


def compared(
    tables: Mapping[Origin, ArmTable],
    external: Mapping[str, Mapping[Origin, ArmTable]],
    plan: ArmsPlan,
    kept: Path,
    source: Mapping[str, object],
    workers: int,
    progress: Progress,
) -> tuple[Compared, ...]:
    """Return the forecasts of every arm in every table; the number of processes changes no figure.

    Parameters
    ----------
    external : mapping of set to tables
    kept : Path
        Folder that keeps the forecasts of each fit; those that it holds are not computed again.
    source : mapping
        What the patients and vectors come from, for JSON: a folder of another source is refused.

    Raises
    ------
    TrainingDataError
        Too few events, or a folder of another evaluation.
    """
    claim(kept, {"plan": repr(plan), **source})
    others = {origin: {s: t[origin] for s, t in external.items() if origin in t} for origin in tables}
    fits = {o: fits_of(table, tuple(others[o].values()), plan) for o, table in tables.items()}
    every = [fit for of in fits.values() for fit in of.values()]
    forecasts = _kept(every, kept, workers, progress)
    found = []
    for origin, table in tables.items():
        folds = folds_of(table, plan)
        pooled = {
            arm: _pooled([forecasts[fits[origin][arm, k].name][0] for k in range(len(folds))], folds)
            for arm in table.rows
        }
        found.append(Compared("test", table, pooled))
        for place, (name, other) in enumerate(others[origin].items()):
            applied = {arm: forecasts[fits[origin][arm, -1].name][place] for arm in table.rows}
            found.append(Compared(name, other, applied))
    return tuple(found)


def _pooled(parts: Sequence[Forecasts], folds: Sequence[np.ndarray]) -> Forecasts:
    order = np.argsort(np.concatenate(folds))
    return {
        name: Forecast(
            np.concatenate([part[name].risk for part in parts])[order],
            np.concatenate([part[name].survival for part in parts])[order],
        )
        for name in parts[0]
    }


def _kept(
    fits: Sequence[Fit], kept: Path, workers: int, progress: Progress
) -> dict[str, tuple[Forecasts, ...]]:
    waiting = [fit for fit in fits if not (kept / f"{fit.name}.npz").is_file()]
    done = len(fits) - len(waiting)
    for fit, found in zip(waiting, in_order(_run, waiting, workers), strict=True):
        _write(kept / f"{fit.name}.npz", found)
        done += 1
        progress(f"survival model {done} of {len(fits)}", done / len(fits))
    return {fit.name: _read(kept / f"{fit.name}.npz", len(fit.others)) for fit in fits}


def _write(path: Path, found: Sequence[Forecasts]) -> None:
    arrays = {
        f"{place}/{name}/{part}": values
        for place, forecasts in enumerate(found)
        for name, forecast in forecasts.items()
        for part, values in (("risk", forecast.risk), ("survival", forecast.survival))
    }
    temporary = path.with_suffix(".part")
    with temporary.open("wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    temporary.replace(path)


def _read(path: Path, others: int) -> tuple[Forecasts, ...]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            names = sorted({key.split("/")[1] for key in stored.files})
            return tuple(
                {n: Forecast(stored[f"{k}/{n}/risk"], stored[f"{k}/{n}/survival"]) for n in names}
                for k in range(others)
            )
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise TrainingDataError("kept forecasts cannot be read; remove that folder") from error
