"""The fitted survival model as the files of a bundle: tensors, and a structure in JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from inference.errors import ModelError
from inference.models.survival.evidence_terms import (
    BASELINE,
    FOLLOW_UP,
    PARTS,
    TEXT,
    EvidenceTerms,
)
from inference.models.survival.fitted import Calibration, Draws, Endpoint, FittedSurvival
from inference.models.survival.hazards import HazardGrid
from inference.models.survival.laboratory import LaboratoryTerms
from inference.models.survival.network import NetworkSize, SurvivalNetwork
from inference.models.survival.skip import ScaledSkip, Skip
from inference.models.survival.terms import NumberTerms, Scale, TableTerms, WordTerms
from inference.models.survival.tokens import ANGIOGRAPHY, DatedLayout, Layout
from inference.models.survival.vector_terms import VectorTerms

TENSORS, STRUCTURE = "model.safetensors", "structure.json"
_Array = npt.NDArray[Any]
_VECTOR_PARTS = (TEXT, ANGIOGRAPHY, BASELINE, FOLLOW_UP)
_NUMBER_ARRAYS = ("from_values", "to_values", "knots", "straight", "rotation")
_NUMBER_VALUES = ("low", "high", "median", "mean", "scale", "missing_share")


def write_model(folder: Path, model: FittedSurvival, size: NetworkSize) -> None:
    """Write the model's files into a folder; `size` is that of its networks."""
    tensors: dict[str, _Array] = {"grid.nodes": model.grid.nodes}
    tensors |= _evidence_tensors(model.evidence_terms)
    endpoints = {}
    for name, part in model.endpoints.items():
        endpoints[name] = _endpoint_to_json(part)
        tensors |= {f"{name}.{key}": value for key, value in _endpoint_tensors(part).items()}
    for number, network in enumerate(model.networks):
        state = network.state_dict()
        tensors |= {f"network.{number}.{key}": value.numpy() for key, value in state.items()}
    structure = {
        "layout": {**_slots(model.layout), "beside": [_slots(group) for group in model.layout.beside]},
        "laboratory": list(model.evidence_terms.laboratory.names),
        "columns": list(model.columns),
        "size": _slots(size),
        "networks": len(model.networks),
        "endpoints": endpoints,
    }
    text = json.dumps(structure, indent=1, ensure_ascii=False) + "\n"
    (folder / STRUCTURE).write_text(text, encoding="utf-8")
    save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, folder / TENSORS)


def read_model(folder: Path) -> FittedSurvival:
    """Read what `write_model` wrote.

    Raises
    ------
    ModelError
        A file is absent or not what it should be.
    """
    try:
        structure = json.loads((folder / STRUCTURE).read_text(encoding="utf-8"))
        tensors = load_file(folder / TENSORS)
        layout = structure["layout"]
        read_layout = Layout(
            columns=tuple(layout["columns"]),
            text_width=int(layout["text_width"]),
            image_kinds=tuple(layout["image_kinds"]),
            image_width=int(layout["image_width"]),
            regimens=tuple(layout["regimens"]),
            beside=tuple(
                DatedLayout(g["name"], tuple(g["kinds"]), int(g["width"])) for g in layout["beside"]
            ),
        )
        endpoints = {
            name: _endpoint(part, _below(tensors, name)) for name, part in structure["endpoints"].items()
        }
        size = NetworkSize(**structure["size"])
        networks = tuple(
            _network(read_layout, size, len(endpoints), _below(tensors, f"network.{number}"))
            for number in range(int(structure["networks"]))
        )
        return FittedSurvival(
            layout=read_layout,
            columns=tuple(structure["columns"]),
            grid=HazardGrid(tensors["grid.nodes"]),
            evidence_terms=_evidence_terms(tuple(structure["laboratory"]), tensors),
            endpoints=endpoints,
            networks=networks,
        )
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"the survival model in {folder.name} cannot be read") from error


def _evidence_tensors(terms: EvidenceTerms) -> dict[str, _Array]:
    found: dict[str, _Array] = {
        f"{part}_terms.{field}": getattr(getattr(terms, part), field)
        for part in _VECTOR_PARTS
        for field in VectorTerms.__slots__
    }
    laboratory = {"centre": terms.laboratory.centre, "spread": terms.laboratory.spread}
    return found | {f"laboratory_terms.{field}": values for field, values in laboratory.items()}


def _evidence_terms(laboratory: tuple[str, ...], tensors: Mapping[str, _Array]) -> EvidenceTerms:
    vectors = {part: VectorTerms(**_below(tensors, f"{part}_terms")) for part in _VECTOR_PARTS}
    return EvidenceTerms(
        laboratory=LaboratoryTerms(laboratory, **_below(tensors, "laboratory_terms")), **vectors
    )


def _slots(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__slots__}


def _below(tensors: Mapping[str, _Array], name: str) -> dict[str, _Array]:
    prefix = f"{name}."
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}


def _network(
    layout: Layout, size: NetworkSize, endpoints: int, state: Mapping[str, _Array]
) -> SurvivalNetwork:
    with torch.random.fork_rng(devices=[]):
        network = SurvivalNetwork(layout, size, endpoints)
    network.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})
    return network.eval()


# ------------------------------------------------------------------ one end point


def _endpoint_to_json(part: Endpoint) -> dict[str, Any]:
    return {
        "share": part.share,
        "calibration": _slots(part.calibration),
        "importance": dict(part.importance),
        "last_month": part.last_month,
        "risk_cut": part.risk_cut,
        "scales": [
            {"scale": s.scale.value, "weight": s.weight, "columns": _terms_to_json(s.terms)}
            for s in part.skip.scales
        ],
    }


def _endpoint_tensors(part: Endpoint) -> dict[str, _Array]:
    tensors = {
        "log_rates": part.log_rates,
        "draws.log_rates": part.draws.log_rates,
    }
    for name in PARTS:
        tensors |= {f"parts.{name}": part.parts[name], f"draws.parts.{name}": part.draws.parts[name]}
    for number, (scale, betas) in enumerate(zip(part.skip.scales, part.draws.betas, strict=True)):
        tensors[f"scale.{number}.beta"] = scale.beta
        tensors[f"scale.{number}.draws"] = betas
        for name, terms in scale.terms.columns.items():
            tensors |= {
                f"scale.{number}.terms.{name}.{key}": value for key, value in _term_arrays(terms).items()
            }
    return tensors


def _endpoint(part: Mapping[str, Any], tensors: Mapping[str, _Array]) -> Endpoint:
    scales = []
    for number, scale in enumerate(part["scales"]):
        own = _below(tensors, f"scale.{number}")
        columns = {
            name: _terms(told, _below(own, f"terms.{name}")) for name, told in scale["columns"].items()
        }
        scales.append(
            ScaledSkip(Scale(scale["scale"]), TableTerms(columns), own["beta"], float(scale["weight"]))
        )
    return Endpoint(
        skip=Skip(tuple(scales)),
        parts=_below(tensors, "parts"),
        share=float(part["share"]),
        log_rates=tensors["log_rates"],
        calibration=Calibration(**part["calibration"]),
        importance=part["importance"],
        last_month=int(part["last_month"]),
        risk_cut=float(part["risk_cut"]),
        draws=Draws(
            betas=tuple(tensors[f"scale.{number}.draws"] for number in range(len(scales))),
            parts=_below(tensors, "draws.parts"),
            log_rates=tensors["draws.log_rates"],
        ),
    )


def _terms_to_json(terms: TableTerms) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for name, column in terms.columns.items():
        if isinstance(column, WordTerms):
            told[name] = {"categories": list(column.categories)}
        else:
            told[name] = {value: getattr(column, value) for value in _NUMBER_VALUES}
    return told


def _term_arrays(terms: NumberTerms | WordTerms) -> dict[str, _Array]:
    if isinstance(terms, WordTerms):
        return {"shares": terms.shares}
    return {name: getattr(terms, name) for name in _NUMBER_ARRAYS}


def _terms(told: Mapping[str, Any], arrays: Mapping[str, _Array]) -> NumberTerms | WordTerms:
    if "categories" in told:
        return WordTerms(tuple(told["categories"]), arrays["shares"])
    fields: dict[str, Any] = {name: float(told[name]) for name in _NUMBER_VALUES}
    fields |= {name: arrays[name] for name in _NUMBER_ARRAYS}
    return NumberTerms(**fields)
