"""Covariates of simulated patients beside the tables of the sources that they are drawn from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from inference.simulation.calibration_measure import Row
from inference.simulation.calibration_population import interval
from inference.simulation.calibration_response import Crowd
from inference.simulation.parameters import SimulationParameters, Source


def covariates(
    source_id: str, source: Source, parameters: SimulationParameters, count: int, seed: int
) -> list[Row]:
    """Return the covariates of a source beside its table, with the interval of its n."""
    people = [p for p, _, _ in Crowd.draw(source_id, count, parameters, seed).people]
    values = [p.clinical for p in people]
    shares: dict[str, tuple[float, list[bool]]] = {
        "male": (source.male, [v["sex"] == "M" for v in values]),
        "hepatitis B": (source.hbv, [bool(v["hepatitis_b"]) for v in values]),
        "ECOG 1": (source.ecog1, [v["ecog"] == 1 for v in values]),
        "ascites": (source.ascites, [v["ascites"] != "none" for v in values]),
        "cirrhosis": (source.cirrhosis, [bool(v["cirrhosis"]) for v in values]),
        "vascular invasion": (source.vascular_invasion, [bool(v["vascular_invasion"]) for v in values]),
        "metastasis": (source.metastasis, [bool(v["metastasis"]) for v in values]),
        "more than 3 tumours": (source.number[3], [float(v["tumour_number"]) > 3 for v in values]),
        "capsule": (source.capsule, [bool(v["capsule"]) for v in values]),
        "diffuse type": (source.diffuse, [bool(v["diffuse_type"]) for v in values]),
    }
    shares |= {
        f"{name} {limit:g} or more": (1.0 - _at(table, limit), [float(v[column]) >= limit for v in values])
        for name, column, table, limit in (
            ("AFP", "afp", source.afp, 400.0),
            ("diameter", "largest_tumour", source.diameter_mm, 100.0),
            ("diameter", "largest_tumour", source.diameter_mm, 50.0),
        )
    }
    kind = "recalled" if source.recalled else "published"
    rows = [
        Row(
            "covariates",
            source_id,
            "",
            name,
            target,
            *interval(target, source.n),
            float(np.mean(found)),
            count,
            kind,
        )
        for name, (target, found) in shares.items()
    ]
    for name in ("albumin", "bilirubin", "alt", "ast", "inr", "platelets", "age"):
        mean, sd = getattr(source, name)
        half = 1.96 * sd / np.sqrt(source.n)
        found = float(np.mean([float(v[name]) for v in values]))
        rows.append(
            Row(
                "covariates",
                source_id,
                "",
                f"{name}, mean",
                mean,
                mean - half,
                mean + half,
                found,
                count,
                kind,
            )
        )
    return rows


def _at(table: Sequence[tuple[float, float]], value: float) -> float:
    p, values = np.array(table).T
    return float(np.interp(value, values, p))
