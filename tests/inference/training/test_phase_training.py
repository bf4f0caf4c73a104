"""Training of the phase classifier: a small one, and in the slow suite the one that is shipped."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from dicom_node.cli.train_phase import phase as command
from inference.bundle_store import bundle_folder, describe
from inference.case import Phase
from inference.imaging.phase_features import PHASES
from inference.models.phase import PhaseClassifier
from inference.models.phase.classifier import WEIGHTS
from inference.randomness import RandomStreams
from inference.simulation.tissues import Blood, Structure
from inference.training.phase_fit import PhaseTrainingSettings, train_phase
from inference.training.phase_samples import draw_contrast, organs_of

SMALL = PhaseTrainingSettings(
    training_anatomies=1, validation_anatomies=1, test_anatomies=1, draws=1, organ_tables=150, epochs=60
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phase") / "bundle"
    shares: list[float] = []
    train_phase(folder, SMALL, lambda _text, share: shares.append(share))
    assert shares == sorted(shares)
    assert 0.0 <= shares[0] <= shares[-1] <= 1.0
    return folder


def test_a_bundle_says_what_it_was_trained_on_and_how_well_it_did(trained: Path):
    bundle = describe(trained)
    assert (bundle.kind, bundle.format) == ("phase", "phase_perceptron")
    assert bundle.info.trained_on == "simulated: 150 organ tables of each phase, n 1 abdomens"
    assert bundle.metadata["settings"] == SMALL.model_dump(mode="json")
    assert set(bundle.metrics["validation"]) == {"ct_organs", "ct_image", "mr_organs", "mr_image"}
    assert bundle.metrics["test"]["ct_organs_shifted"]["n"] == 4
    PhaseClassifier.from_bundle(trained)


def test_something_was_learned(trained: Path):
    """Organ tables are enough even here: a quarter of them would be right by chance."""
    found = describe(trained).metrics["validation"]["ct_organs"]
    assert found["accuracy"] > 0.6
    assert found["log_loss"] < np.log(4.0) / 1.4


def test_the_defaults_of_the_command_make_the_shipped_bundle():
    defaults, shipped = PhaseTrainingSettings(), describe("phase")
    assert shipped.metadata["settings"] == defaults.model_dump(mode="json")
    given = {name: p.default for name, p in inspect.signature(command).parameters.items()}
    assert given["seed"] == defaults.seed
    assert given["anatomies"] == defaults.training_anatomies
    assert given["organ_tables"] == defaults.organ_tables


@pytest.mark.slow
def test_the_same_settings_give_the_same_bytes(trained: Path, tmp_path: Path):
    train_phase(tmp_path / "again", SMALL, lambda _text, _share: None)
    assert describe(tmp_path / "again").info.sha256 == describe(trained).info.sha256


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_shipped_bundle_is_what_the_command_makes(tmp_path: Path):
    """Same figures and nearly the same weights; the same bytes on the kind of processor it was made on."""
    metadata = train_phase(tmp_path / "again", PhaseTrainingSettings(), lambda _text, _share: None)
    shipped = describe("phase")
    for part, groups in shipped.metrics.items():
        for name, figures in groups.items():
            found = metadata["metrics"][part][name]
            assert found["n"] == figures["n"]
            assert found["accuracy"] == pytest.approx(figures["accuracy"], abs=0.02), name
            assert found["log_loss"] == pytest.approx(figures["log_loss"], abs=0.02), name
    ours, theirs = load_file(tmp_path / "again" / WEIGHTS), load_file(bundle_folder("phase") / WEIGHTS)
    assert set(ours) == set(theirs)
    for name, array in theirs.items():
        np.testing.assert_allclose(ours[name], array, atol=0.05, err_msg=name)


# ------------------------------------------------------------------ what is drawn


@pytest.fixture(scope="module")
def ct_tables() -> dict[Phase, list[dict[Structure | Blood, float]]]:
    rng = RandomStreams(3).derive("drawn")
    found: dict[Phase, list[dict[Structure | Blood, float]]] = {}
    for phase in PHASES["CT"]:
        drawn = [draw_contrast("CT", phase, rng) for _ in range(60)]
        found[phase] = [{**{s: float(d.tissue[s]) for s in Structure}, **d.vessels} for d in drawn]
    return found


def mean(tables, phase: Phase, what) -> float:
    return float(np.mean([t[what] for t in tables[phase]]))


def test_contrast_runs_through_the_body_in_order(ct_tables):
    aorta = [mean(ct_tables, p, Structure.AORTA) for p in PHASES["CT"]]
    assert aorta[1] > aorta[2] > aorta[3] > aorta[0]
    portal = [mean(ct_tables, p, Blood.PORTAL) for p in PHASES["CT"]]
    assert max(portal) == portal[2]
    liver = [mean(ct_tables, p, Structure.LIVER) for p in PHASES["CT"]]
    assert liver[2] > liver[1] > liver[0]
    cortex, medulla = (
        mean(ct_tables, Phase.ARTERIAL, s) for s in (Structure.KIDNEY_CORTEX, Structure.KIDNEY_MEDULLA)
    )
    assert cortex > medulla + 30.0


def test_patients_differ(ct_tables):
    drawn = [t[Structure.AORTA] for t in ct_tables[Phase.ARTERIAL]]
    assert np.std(drawn) > 20.0


def test_organ_tables_always_have_a_liver_and_lack_others_sometimes():
    rng = RandomStreams(5).derive("tables")
    tables = [organs_of(draw_contrast("MR", Phase.T1_ARTERIAL, rng), rng) for _ in range(300)]
    assert all({"liver", "liver_vessels"} <= set(t) for t in tables)
    share = np.mean(["aorta" in t for t in tables])
    assert 0.45 < share < 0.7
    assert all("kidney_high" in t for t in tables if "kidney_low" in t)
    assert any(set(t) == {"liver", "liver_vessels"} for t in tables)
