"""Training of one network for each cohort of treatment: who is counted, and what the bundle says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from inference.bundle_store import METADATA
from inference.errors import TrainingDataError
from inference.models.second_opinions.atom import Therapy
from inference.models.second_opinions.cohort_models import CohortModels, Target
from inference.models.second_opinions.cohort_networks import Architecture, Inputs
from inference.training.cohort import Cohort, write_tables
from inference.training.seed_systems.atom_agreement import agreement_table
from inference.training.seed_systems.cohort_fit import COHORTS, CohortTraining
from inference.training.seed_systems.cohort_models import train_cohort_models, training_of
from tests.builders.treated_cohort import write_treated


def quiet(text: str, share: float) -> None:
    """Show nothing."""


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return write_treated(tmp_path_factory.mktemp("cohort"), patients=28, size=24)


def small(architecture: Architecture, **changed: object) -> CohortTraining:
    """Return a training of seconds; the clinical logistic regression has no steps at all."""
    settings = training_of(architecture, steps=2)
    network = settings.network.model_copy(
        update={"side": 24, "patch": 12, "width": 8, "joint": 1, "bidirectional": 1, "heads": 2}
    )
    return settings.model_copy(update={"network": network, **changed})


def trained(cohort: Cohort, folder: Path, settings: CohortTraining) -> tuple[CohortModels, dict[str, object]]:
    train_cohort_models(cohort, folder / "bundle", folder / "work", settings, quiet)
    metadata = json.loads((folder / "bundle" / METADATA).read_text(encoding="utf-8"))
    return CohortModels.read(folder / "bundle"), metadata


def test_every_cohort_has_its_target_and_its_regimens(cohort, tmp_path) -> None:
    models, metadata = trained(cohort, tmp_path, small(Architecture.CLINICAL_LOGISTIC))
    assert [m.therapy for m in models.file.models] == list(Therapy)
    targets = {m.therapy: m.target for m in models.file.models}
    assert targets[Therapy.TACE] is Target.RESPONSE
    assert targets[Therapy.HAIC_SYSTEMIC] is Target.ONE_YEAR
    assert metadata["response_regimens"] == ["tace", "haic"]
    assert metadata["kind"] == "second_opinion"
    assert str(metadata["trained_on"]).startswith("simulated: stand-in, n=")
    assert "reconstruction" in str(metadata["atom"])
    assert metadata["published_medians"] == {
        "tace": 0.4035,
        "haic": 0.3368,
        "tace_systemic": 0.613,
        "haic_systemic": 0.6458,
    }


def test_patients_who_did_not_live_to_the_landmark_are_not_counted(cohort, tmp_path) -> None:
    """Half of the patients die in the sixth month or so: a landmark of nine months leaves out all of them.

    Then nobody is left who did not live a year, and the cohorts with systemic therapy have no model.
    """
    early, _metadata = trained(cohort, tmp_path / "early", small(Architecture.CLINICAL_LOGISTIC))
    late, metadata = trained(
        cohort, tmp_path / "late", small(Architecture.CLINICAL_LOGISTIC, landmark_months=9.0)
    )
    counted = [{m.therapy: m.patients for m in models.file.models} for models in (early, late)]
    assert counted[1][Therapy.TACE] < counted[0][Therapy.TACE]
    assert Therapy.TACE_SYSTEMIC in counted[0]
    assert Therapy.TACE_SYSTEMIC not in counted[1]
    assert "0 did not" in metadata["left_out"]["tace_systemic"]  # type: ignore[index]


def test_cohort_without_the_treatments_is_refused(cohort, tmp_path) -> None:
    table = cohort.patients.assign(regimen_id="untreated")
    other = write_tables(tmp_path / "other", cohort.info, table, cohort.outcomes)
    with pytest.raises(TrainingDataError, match="no cohort of treatment"):
        train_cohort_models(
            other, tmp_path / "bundle", tmp_path / "work", small(Architecture.CLINICAL_LOGISTIC), quiet
        )


def test_same_seed_gives_the_same_network(cohort, tmp_path) -> None:
    settings = small(Architecture.SELECTION, cohorts=COHORTS[:1])
    first, again = (trained(cohort, tmp_path / name, settings)[1] for name in ("a", "b"))
    assert first["sha256"] == again["sha256"]


def test_agreement_counts_each_patient_once() -> None:
    """Networks that always give one score: the flow ends at TACE for everybody."""

    class _Always(torch.nn.Module):
        def __init__(self, score: float) -> None:
            super().__init__()
            self.score = score

        def forward(self, inputs: Inputs) -> torch.Tensor:
            return torch.full((len(inputs),), float(np.log(self.score / (1 - self.score))))

    given = Inputs(
        torch.zeros(4, 2, 2, 2), torch.ones(4, 2).bool(), torch.zeros(4, 1), torch.ones(4, 1).bool()
    )
    networks = {t: _Always(0.6 if t is Therapy.TACE else 0.4) for t in Therapy}
    medians = dict.fromkeys(Therapy, 0.5)
    value = np.array([1.0, 0.0, 1.0, 1.0])
    found = agreement_table(networks, medians, [(Therapy.TACE, given, value), (Therapy.HAIC, given, value)])
    assert found["tace"] == {"consistent": (3, 4), "inconsistent": (0, 0), "against all four": (0, 0)}
    assert found["haic"] == {"consistent": (0, 0), "inconsistent": (3, 4), "against all four": (0, 0)}
    nothing = dict.fromkeys(Therapy, 0.9)
    assert agreement_table(networks, nothing, [(Therapy.HAIC, given, value)])["haic"] == {
        "consistent": (0, 0),
        "inconsistent": (0, 0),
        "against all four": (3, 4),
    }
