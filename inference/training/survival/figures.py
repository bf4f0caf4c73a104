"""Point figures of a fitted model on patients that it was not fitted to."""

from __future__ import annotations

import numpy as np

from inference.models.survival.fitted import FittedSurvival
from inference.training.survival.rows import SurvivalRows

MONTHS = (12.0, 24.0, 36.0)


def figures(model: FittedSurvival, rows: SurvivalRows) -> dict[str, dict[str, float | int]]:
    """Return, for each end point, patients, events, Harrell's C, and mean forecast survival by month.

    C is TorchSurv's, of the log cumulative hazard at the last node but one, centred: it computes in
    single precision.
    """
    import torch
    from torchsurv.metrics.cindex import ConcordanceIndex

    found: dict[str, dict[str, float | int]] = {}
    for name, followed in rows.outcomes.items():
        known = followed.known
        log_hazards = model.log_hazards(name, rows.inputs)[known]
        node = model.grid.nodes[-2] if len(model.grid) > 1 else model.grid.nodes[-1]
        risk = np.log(np.exp(log_hazards) @ model.grid.exposure([node])[0])
        concordance = ConcordanceIndex()(
            torch.from_numpy((risk - risk.mean()).astype(np.float32)),
            torch.from_numpy(followed.event[known]),
            torch.from_numpy(followed.months[known].astype(np.float32)),
        )
        survival = model.survival(name, rows.inputs, MONTHS)[known].mean(axis=0)
        found[name] = {
            "patients": int(known.sum()),
            "events": int(followed.event[known].sum()),
            "c": round(float(concordance), 4),
            **{f"mean_survival_{int(m)}": round(float(s), 4) for m, s in zip(MONTHS, survival, strict=True)},
        }
    return found
