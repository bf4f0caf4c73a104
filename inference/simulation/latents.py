"""Who a simulated patient is: latent traits, clinical values, look of the tissue, plan of the tumours.

Every observable is a quantile of its source's distribution at a standard normal score, and the scores
load on the latent traits (a Gaussian copula). So the covariates have the published distributions,
and carry as much of the traits as the loadings say.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

from inference.clinical import scores
from inference.randomness import RandomStreams
from inference.simulation.disease import Appearance, Latents
from inference.simulation.parameters import Quantiles, SimulationParameters, Source

Value = float | str | bool

_ULN_ALT_AST, _ULN_CREATININE, _CONTROL_PT = 40.0, 104.0, 12.0


@dataclass(frozen=True, slots=True)
class TumourPlan:
    """What tumours a patient has, before they are placed in a liver.

    Attributes
    ----------
    diameters_mm : largest first
    infiltrative : 0 to 1, of the largest
    capsule : 0 to 1
    necrosis_share : of the largest tumour's volume, before treatment
    thrombus : 0 none, 1 Vp1-2, 3 first branch, 4 trunk
    tvdt_months : volume doubling time of the largest
    """

    diameters_mm: tuple[float, ...]
    infiltrative: float
    capsule: float
    necrosis_share: float
    thrombus: int
    tvdt_months: float


@dataclass(frozen=True, slots=True)
class Person:
    """One simulated patient.

    Attributes
    ----------
    clinical : what a record would hold, by name of the variable table; complete
    missing : names that the record lacks
    """

    source: str
    latents: Latents
    clinical: Mapping[str, Value]
    missing: tuple[str, ...]
    appearance: Appearance
    plan: TumourPlan

    @property
    def albi(self) -> float:
        """Albumin-bilirubin score at baseline."""
        return scores.albi(float(self.clinical["albumin"]), float(self.clinical["bilirubin"]))

    @property
    def recorded(self) -> dict[str, Value]:
        """The clinical values without those that are missing."""
        return {name: value for name, value in self.clinical.items() if name not in self.missing}


@dataclass(slots=True)
class _Scores:
    """Standard normal scores that load on the latent traits."""

    traits: np.ndarray[tuple[int], np.dtype[np.float64]]
    parameters: SimulationParameters
    rng: np.random.Generator

    def __call__(self, name: str) -> float:
        loading = np.asarray(self.parameters.loadings[name])
        rest = math.sqrt(max(1.0 - float(loading @ loading), 0.0))
        return float(loading @ self.traits) + rest * float(self.rng.standard_normal())


def draw_person(source_id: str, parameters: SimulationParameters, streams: RandomStreams) -> Person:
    """Draw one patient of a source; the same streams give the same patient."""
    source = parameters.sources[source_id]
    traits = streams.derive("latents").standard_normal(4)
    score = _Scores(traits, parameters, streams.derive("observed"))
    latents = Latents(*(float(t) for t in traits))
    plan = _plan(source, parameters, score)
    clinical = _clinical(source, plan, score)
    rng = streams.derive("missing")
    missing = tuple(name for name, share in parameters.missing.items() if rng.random() < share)
    return Person(source_id, latents, clinical, missing, _appearance(parameters, plan, clinical, score), plan)


def at_quantile(table: Quantiles, score: float, *, logarithmic: bool = True) -> float:
    """Return the value of a table of quantiles at a standard normal score."""
    p, values = np.array(table).T
    u = float(ndtr(score))
    if logarithmic:
        return float(np.exp(np.interp(u, p, np.log(values))))
    return float(np.interp(u, p, values))


def _lognormal(mean_sd: tuple[float, float], score: float) -> float:
    mean, sd = mean_sd
    variance = math.log(1.0 + (sd / mean) ** 2)
    return math.exp(math.log(mean) - variance / 2.0 + math.sqrt(variance) * score)


def _true(share: float, score: float) -> bool:
    return bool(score > ndtri(1.0 - share)) if 0.0 < share < 1.0 else share >= 1.0


def _plan(source: Source, parameters: SimulationParameters, score: _Scores) -> TumourPlan:
    rng = score.rng
    largest = at_quantile(source.diameter_mm, score("diameter"), logarithmic=False)
    count = _count(source, score("number"), parameters.tumours.largest_number, rng)
    rest = largest * rng.uniform(0.0, 1.0, count - 1) ** (1.0 / parameters.tumours.satellite_exponent) * 0.9
    others = np.sort(np.maximum(rest, parameters.tumours.floor_mm + rng.uniform(0, 4, count - 1)))[::-1]
    diffuse = _true(source.diffuse, score("diffuse"))
    infiltrative = float(rng.uniform(0.55, 1.0) if diffuse else rng.beta(1.2, 6.0))
    capsule = float(rng.uniform(0.5, 1.0) if _true(source.capsule, score("capsule")) else rng.uniform(0, 0.2))
    invaded = _true(source.vascular_invasion, score("vascular_invasion"))
    size = math.log(largest / 80.0)
    dead = parameters.growth.necrosis_share * math.exp(0.9 * size + 0.8 * score("necrosis") - 0.3)
    return TumourPlan(
        diameters_mm=(largest, *(float(min(d, largest)) for d in others)),
        infiltrative=infiltrative,
        capsule=0.65 * capsule if diffuse else capsule,
        necrosis_share=float(np.clip(dead, 0.0, 0.55)) if largest > 25 else 0.0,
        thrombus=_thrombus(source, rng) if invaded else 0,
        tvdt_months=at_quantile(parameters.growth.tvdt_months, score("tvdt")),
    )


def _count(source: Source, score: float, largest: int, rng: np.random.Generator) -> int:
    edges = np.cumsum(source.number)
    u = float(ndtr(score))
    few = int(np.searchsorted(edges[:3] / edges[-1], u, side="right")) + 1
    return few if few <= 3 else int(min(4 + rng.geometric(0.45) - 1, largest))


def _thrombus(source: Source, rng: np.random.Generator) -> int:
    u = rng.random()
    if u < source.vp4:
        return 4
    return 3 if u < source.vp4 + source.vp_major else 1


def _clinical(source: Source, plan: TumourPlan, score: _Scores) -> dict[str, Value]:
    rng = score.rng
    prothrombin = score("prothrombin")
    values: dict[str, Value] = {
        "age": round(float(np.clip(rng.normal(*source.age), 19, 90))),
        "sex": "M" if rng.random() < source.male else "F",
        "ecog": int(_true(source.ecog1, score("ecog1"))),
        "hepatitis_b": bool(rng.random() < source.hbv),
        "hepatitis_c": bool(rng.random() < source.hcv),
        "diabetes": bool(rng.random() < source.diabetes),
        "cirrhosis": _true(source.cirrhosis, score("cirrhosis")),
        "ascites": "slight" if _true(source.ascites, score("ascites")) else "none",
        "encephalopathy": "none",
        "albumin": round(float(np.clip(source.albumin[0] + source.albumin[1] * score("albumin"), 20, 56)), 1),
        "bilirubin": round(float(np.clip(_lognormal(source.bilirubin, score("bilirubin")), 3, 260)), 1),
        "alt": round(float(np.clip(_lognormal(source.alt, score("alt")), 6, 1200))),
        "ast": round(float(np.clip(_lognormal(source.ast, score("ast")), 8, 2000))),
        "alt_upper_limit": _ULN_ALT_AST,
        "ast_upper_limit": _ULN_ALT_AST,
        "prothrombin_time": round(_lognormal(source.prothrombin_time, prothrombin), 1),
        "inr": round(_lognormal(source.inr, 0.9 * prothrombin + 0.436 * rng.standard_normal()), 2),
        "platelets": round(float(np.clip(_lognormal(source.platelets, score("platelets")), 30, 900))),
        "neutrophils": round(float(np.clip(3.6 * math.exp(0.38 * score("neutrophils")), 1.0, 20)), 2),
        "haemoglobin": round(float(np.clip(rng.normal(134, 17), 80, 185))),
        "crp": round(float(np.clip(9.0 * math.exp(1.1 * score("crp")), 0.3, 250)), 1),
        "creatinine": round(float(np.clip(72.0 * math.exp(0.2 * rng.standard_normal()), 35, 150))),
        "creatinine_upper_limit": _ULN_CREATININE,
        "afp": round(at_quantile(source.afp, score("afp")), 1),
        "lymph_nodes": _true(source.lymph_nodes, score("lymph_nodes")),
        "metastasis": _true(source.metastasis, score("metastasis")),
    }
    values["prothrombin_prolongation"] = round(float(values["prothrombin_time"]) - _CONTROL_PT, 1)
    return values | _tumour_values(plan) | _stages(values, plan)


def _tumour_values(plan: TumourPlan) -> dict[str, Value]:
    classes = {0: "Vp0", 1: "Vp2", 3: "Vp3", 4: "Vp4"}
    return {
        "tumour_number": len(plan.diameters_mm),
        "largest_tumour": round(plan.diameters_mm[0], 1),
        "diffuse_type": plan.infiltrative > 0.5,
        "capsule": plan.capsule > 0.3,
        "vascular_invasion": plan.thrombus > 0,
        "portal_vein_thrombosis": plan.thrombus > 0,
        "pvtt_class": classes[plan.thrombus],
    }


def _stages(values: Mapping[str, Value], plan: TumourPlan) -> dict[str, Value]:
    points = scores.child_pugh(
        float(values["bilirubin"]),
        float(values["albumin"]),
        float(values["inr"]),
        str(values["ascites"]),
        str(values["encephalopathy"]),
    )
    grade = scores.child_pugh_class(points)
    burden = scores.Burden(len(plan.diameters_mm), plan.diameters_mm[0] / 10.0)
    spread = scores.Spread(plan.thrombus > 0, bool(values["metastasis"]) or bool(values["lymph_nodes"]))
    ecog = int(values["ecog"])
    return {
        "child_pugh_score": points,
        "child_pugh_class": grade,
        "bclc_stage": scores.bclc_2022(ecog, grade, burden, spread),
        "cnlc_stage": scores.cnlc_2022(ecog, grade, burden, spread),
    }


def _appearance(
    parameters: SimulationParameters, plan: TumourPlan, clinical: Mapping[str, Value], score: _Scores
) -> Appearance:
    rng = score.rng
    oil = parameters.lipiodol
    washout = score("washout")
    cirrhotic = bool(clinical["cirrhosis"])
    reserve = (38.0 - float(clinical["albumin"])) / 10.0
    ascites = rng.uniform(0.3, 0.8) if clinical["ascites"] != "none" else rng.uniform(0, 0.05)
    return Appearance(
        arterial_contrast_hu=float(np.clip(38.0 + 15.0 * score("arterial") - 8.0 * plan.infiltrative, 4, 85)),
        portal_contrast_hu=float(np.clip(-16.0 - 9.0 * washout, -45, 6)),
        delayed_contrast_hu=float(np.clip(-22.0 - 9.0 * washout, -50, 2)),
        mosaic_hu=float(np.clip(9.0 + 4.0 * score("mosaic"), 2, 24)),
        capsule=plan.capsule,
        steatosis=float(np.clip(rng.beta(1.1, 5.0) * (1.0 - 0.4 * cirrhotic), 0, 1)),
        nodularity=float(np.clip((0.55 if cirrhotic else 0.12) + 0.35 * reserve + rng.normal(0, 0.15), 0, 1)),
        ascites=float(ascites),
        lipiodol_hu=float(np.clip(rng.normal(*oil.contrast_hu), *oil.contrast_limits_hu)),
        infiltrative=plan.infiltrative,
    )
