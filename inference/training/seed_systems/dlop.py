"""Training of DLOP_Combin and of its four comparators, from a landmark on.

The study gave its Cox model the output of the image network for the patients whom the network had learned.
Here that output is cross-fitted: each training patient's comes from a network that did not see the patient,
so that the Cox model does not trust it more than it deserves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from inference.bundle_store import BundleKind, seal
from inference.errors import ModelError, TrainingDataError
from inference.models.lasso_cox import LassoCox
from inference.models.protocols import Progress, within
from inference.models.second_opinions.dlop import (
    CTR_RISK,
    FORMAT,
    OUTPUT_MONTHS,
    YEAR_ENDS,
    Comparators,
    DlopFile,
    DlopNetwork,
    DlopNetworks,
    FactorScale,
    log_risk,
    network_log_rates,
    write_dlop,
)
from inference.models.second_opinions.dlop_factors import RESPONSE
from inference.models.second_opinions.residual import Depth, ResidualSettings
from inference.randomness import RandomStreams
from inference.results import FloatArray
from inference.settings import Frozen
from inference.training.cohort import Cohort, Split
from inference.training.lasso_cox_fit import Preparation, fit_lasso_cox
from inference.training.loop import Fitted
from inference.training.seed_systems.dlop_figures import figures_at_landmark, youden_cut
from inference.training.seed_systems.dlop_networks import NetworkTraining, train_network
from inference.training.seed_systems.dlop_patients import (
    FACTOR_NAMES,
    DlopPatients,
    Forecast,
    dlop_patients,
    forecasts,
)
from inference.training.seed_systems.factor_cox import chosen_factors, fit_factor_cox
from inference.training.seed_systems.landmark import REASON, Landmarked, landmarked
from inference.training.seed_systems.outcomes import treated_with
from inference.training.seed_systems.resnet50 import STARTED_FROM
from inference.training.seed_systems.slices import claim

NAME, VERSION = "dlop_combin", "1"
COMMAND = "hepatocast train dlop-combin COHORT --out BUNDLE_DIR"
NOTES = (
    "five outputs for four intervals in the study: one for each interval here",
    (
        "the study writes that scores at or below .902 live longer, though its score is survival: here high "
        "survival is low risk"
    ),
    "microvascular invasion is not known before surgery: macroscopic invasion stands for it",
)
_FEWEST, _FEWEST_EVENTS = 10, 2


class DlopTraining(Frozen):
    """How the system is trained."""

    residual: ResidualSettings = ResidualSettings(depth=Depth.RESNET101)
    network: NetworkTraining = NetworkTraining()
    landmark_months: float = Field(3.0, gt=0, lt=YEAR_ENDS[0])
    regimens: tuple[str, ...] = Field(
        ("tace",), description="regimens whose patients are used; empty for all"
    )
    folds: int = Field(2, ge=2, description="parts in which the image network's output is cross-fitted")


@dataclass(frozen=True, slots=True)
class _Trained:
    file: DlopFile
    networks: DlopNetworks
    comparators: Comparators
    combin: Fitted
    ctr: Fitted


def train_dlop(
    cohort: Cohort, out: Path, work: Path, settings: DlopTraining, progress: Progress
) -> Mapping[str, Any]:
    """Train on the training patients and write a bundle; return its metadata.

    Validation patients give the Youden cut, and the figures of discrimination, which need no cut; training
    patients give the cut where all validation patients fared alike.

    Parameters
    ----------
    work : Path
        Takes slices, radiomics, checkpoints and learning curves; a training that was stopped goes on.

    Raises
    ------
    TrainingDataError
        Too few patients or events after the landmark.
    """
    residual = settings.residual.model_copy(update={"modality": cohort.info.modality})
    claim(work, {"cohort": cohort.info.sha256, "settings": settings.model_dump(mode="json")})
    followed = _followed(cohort, settings, Split.TRAIN)
    if len(followed.ids) < _FEWEST or followed.event.sum() < _FEWEST_EVENTS:
        raise TrainingDataError(
            f"DLOP_Combin needs {_FEWEST} training patients and {_FEWEST_EVENTS} deaths after the landmark "
            f"({settings.landmark_months:g} months); there are {len(followed.ids)} and {followed.event.sum()}"
        )
    patients = dlop_patients(
        cohort, followed.ids, followed.response, residual, work, within(progress, 0.0, 0.2)
    )
    trained = _trained(patients, followed, residual, settings, work, within(progress, 0.2, 0.9))
    held = _followed(cohort, settings, Split.VALIDATION)
    others = dlop_patients(cohort, held.ids, held.response, residual, work, within(progress, 0.9, 0.99))
    found = _forecasts(trained, others)
    cut, cut_from = _cut(
        (("validation", found, held), ("training", _forecasts(trained, patients), followed)),
        settings.landmark_months,
    )
    file = trained.file.model_copy(update={"risk_cut": cut})
    write_dlop(out, file, trained.networks, trained.comparators)
    metadata = {
        "name": f"{NAME}_{cohort.info.modality.lower()}",
        "version": VERSION,
        "kind": BundleKind.SECOND_OPINION.value,
        "format": FORMAT,
        "schema": 1,
        "trained_on": f"{cohort.info.origin}: {cohort.info.name}, n={len(followed.ids)}, "
        f"events={int(followed.event.sum())}",
        "regimens": list(settings.regimens),
        "cohort_sha256": cohort.info.sha256,
        "command": COMMAND,
        "seed": settings.network.loop.seed,
        "started_from": STARTED_FROM,
        "landmark": {
            "months": settings.landmark_months,
            "reason": REASON,
            "training": followed.told(),
            "validation": held.told(),
        },
        "notes": list(NOTES),
        "training": _told(trained),
        "risk_cut": {"three_year_survival": cut, "patients": cut_from},
        "metrics": figures_at_landmark(
            {name: f.risk for name, f in found.items()}, held, settings.landmark_months
        ),
    }
    seal(out, metadata)
    progress("done", 1.0)
    return metadata


def _forecasts(trained: _Trained, patients: DlopPatients) -> Mapping[str, Forecast]:
    """Return forecasts at three years; none of no patients."""
    if not patients.ids:
        return {}
    at = np.array([OUTPUT_MONTHS])
    return forecasts(patients, trained.file, trained.networks, trained.comparators, at)


def _cut(
    sources: Sequence[tuple[str, Mapping[str, Forecast], Landmarked]], landmark_months: float
) -> tuple[float | None, str]:
    """Return Youden's cut of three-year survival from the first patients that have one, and who they are."""
    for name, found, followed in sources:
        if found:
            cut = youden_cut(found["dlop-combin"].survival[:, 0], followed, landmark_months)
            if cut is not None:
                return cut, name
    return None, "none"


def _followed(cohort: Cohort, settings: DlopTraining, split: Split) -> Landmarked:
    ids = treated_with(cohort, settings.regimens, split)
    return landmarked(cohort, ids, settings.landmark_months)


def _told(trained: _Trained) -> dict[str, Any]:
    comparators = trained.comparators
    return {
        "factors": [s.name for s in trained.file.factors],
        "steps": {"combin": trained.combin.steps, "ctr": trained.ctr.steps},
        "kept_step": {"combin": trained.combin.kept_step, "ctr": trained.ctr.kept_step},
        "radiomics": [] if comparators.radiomics is None else list(comparators.radiomics.file.names),
    }


# ------------------------------------------------------------------ fitting


def _trained(
    patients: DlopPatients,
    followed: Landmarked,
    residual: ResidualSettings,
    settings: DlopTraining,
    work: Path,
    progress: Progress,
) -> _Trained:
    scales = _scales(patients, followed)
    file = DlopFile(
        residual=residual,
        landmark_months=settings.landmark_months,
        regimens=settings.regimens,
        factors=scales,
    )
    everyone = np.arange(len(patients.ids))
    streams = RandomStreams(settings.network.loop.seed)

    def network(among: np.ndarray, factors: int, name: str, first: float, last: float) -> Fitted:
        part = within(progress, first, last)
        return train_network(
            patients, followed, among, file, factors, settings.network, work / name, streams, part
        )

    combin = network(everyone, len(scales), "combin", 0.0, 0.35)
    ctr = network(everyone, 0, "ctr", 0.35, 0.6)
    fold = _folds(followed, settings.folds, streams)
    risk = np.zeros(len(everyone))
    for number in range(settings.folds):
        share = [0.6 + 0.35 * (number + k) / settings.folds for k in (0, 1)]
        other = network(np.flatnonzero(fold != number), 0, f"ctr_without_{number}", *share)
        assert isinstance(other.model, DlopNetwork)
        risk[fold == number] = _risks(other.model, patients, np.flatnonzero(fold == number), file)
    assert isinstance(combin.model, DlopNetwork)
    assert isinstance(ctr.model, DlopNetwork)
    comparators = _comparators(patients, followed, scales, risk, streams)
    return _Trained(file, DlopNetworks(combin.model, ctr.model), comparators, combin, ctr)


def _scales(patients: DlopPatients, followed: Landmarked) -> tuple[FactorScale, ...]:
    """Return the factors that are used, with their scale; response always, where it differs."""
    always = [FACTOR_NAMES.index(RESPONSE)]
    places = chosen_factors(patients.factors, followed.months, followed.event, always)
    if not len(places):
        raise TrainingDataError(
            "no clinical factor is related to survival, and response to treatment is not known or the same "
            "in all patients"
        )
    prepared = Preparation.of(patients.factors)
    at = {int(place): i for i, place in enumerate(prepared.used)}
    return tuple(
        FactorScale(
            name=FACTOR_NAMES[place], mean=float(prepared.mean[at[place]]), sd=float(prepared.sd[at[place]])
        )
        for place in places.tolist()
    )


def _folds(followed: Landmarked, folds: int, streams: RandomStreams) -> np.ndarray:
    """Return the part of each patient, deaths spread evenly."""
    rng = streams.derive("dlop", "cross-fitting")
    fold = np.zeros(len(followed.ids), dtype=np.intp)
    for seen in (True, False):
        members = rng.permutation(np.flatnonzero(followed.event == seen))
        fold[members] = np.arange(len(members)) % folds
    return fold


def _risks(network: DlopNetwork, patients: DlopPatients, places: np.ndarray, file: DlopFile) -> FloatArray:
    rates = [network_log_rates(network, patients.slices[i], np.zeros(0), file.grid) for i in places.tolist()]
    return np.array([log_risk(r, file.grid, file.landmark_months) for r in rates])


def _comparators(
    patients: DlopPatients,
    followed: Landmarked,
    scales: tuple[FactorScale, ...],
    ctr_risk: FloatArray,
    streams: RandomStreams,
) -> Comparators:
    places = [FACTOR_NAMES.index(s.name) for s in scales]
    names = [FACTOR_NAMES[i] for i in places]
    factors = patients.factors[:, places]
    with_ctr = np.column_stack([factors, ctr_risk])
    months, event = followed.months, followed.event
    return Comparators(
        cox=fit_factor_cox(with_ctr, [*names, CTR_RISK], months, event),
        radiomics=_radiomics(patients, followed, streams),
        clinical=fit_factor_cox(factors, names, months, event),
    )


def _radiomics(patients: DlopPatients, followed: Landmarked, streams: RandomStreams) -> LassoCox | None:
    table = patients.radiomics
    rng = streams.derive("dlop", "radiomics folds")
    try:
        return fit_lasso_cox(table.values, table.names, followed.months, followed.event, rng)
    except ModelError:
        return None
