"""Parts of DELICAITE: reduced features, what is told, and the files of its bundle."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.special import logit

from inference.comparison.overlap import Propensity
from inference.errors import ModelError
from inference.models.second_opinions.clinical_inputs import ClinicalScale
from inference.models.second_opinions.delicaite import (
    WEIGHTS,
    Delicaite,
    DelicaiteFile,
    Features,
    Split,
    values_of,
)
from inference.models.second_opinions.interaction import InteractionNetwork, InteractionSettings
from inference.models.second_opinions.reduction import Reduction
from inference.training.seed_systems.delicaite import fit_reduction

RATIO = "log odds ratio of progression, TACE over HAIC"


def system() -> tuple[Delicaite, Features]:
    """Return a system of one clinical variable, and the features of three patients."""
    rng = np.random.default_rng(0)
    features = Features(rng.normal(size=(30, 5)), rng.normal(size=(30, 4)), rng.normal(size=(30, 1)))
    radiomics, slices = fit_reduction(features.radiomics, 2), fit_reduction(features.slices, 2)
    settings = InteractionSettings(inputs=5, hidden=3)
    torch.manual_seed(0)
    network = InteractionNetwork(settings)
    torch.nn.init.normal_(network.interaction.weight)
    file = DelicaiteFile(
        modality="CT",
        clinical=ClinicalScale(names=("age",), mean=(60.0,), sd=(10.0,)),
        radiomics=("a", "b", "c", "d", "e"),
        network=settings,
        progression_months=6.0,
        progression_free=None,
    )
    propensity = Propensity(np.array([[0.2], [0.5]]))
    three = Features(features.radiomics[:3], features.slices[:3], features.clinical[:3])
    return Delicaite(file, network.eval(), radiomics, slices, propensity), three


def test_components_of_training_patients_are_uncorrelated_and_of_variance_one() -> None:
    rng = np.random.default_rng(0)
    source = rng.normal(size=(80, 2))
    features = np.column_stack([source, source @ [1.0, 2.0], rng.normal(size=80), np.full(80, 3.0)])
    features[0, 1] = np.nan
    reduction = fit_reduction(features, 3)
    assert list(reduction.used) == [0, 1, 2, 3], "a feature that never differs is not used"
    found = reduction.apply(features)
    np.testing.assert_allclose(np.cov(found.T, bias=True), np.eye(3), atol=0.02)


def test_a_patient_without_features_is_average() -> None:
    reduction = fit_reduction(np.random.default_rng(0).normal(size=(20, 4)), 2)
    np.testing.assert_allclose(reduction.apply(np.full((1, 4), np.nan)), 0.0)


def test_probabilities_differ_by_the_log_odds_ratio() -> None:
    found = Split(np.array([-0.3]), np.array([0.8]), np.array([0.4]))
    told = [{v.name: v.value for v in values_of(found, name, 6.0)} for name in ("tace", "haic")]
    tace, haic = (logit(float(v["progressive disease within 6 months"])) for v in told)
    assert tace - haic == pytest.approx(0.8)
    assert tace + haic == pytest.approx(2 * -0.3)
    assert [v[RATIO] for v in told] == [0.8, 0.8]
    assert [v["group"] for v in told] == ["Alter", "Maintain"]


@pytest.mark.parametrize("propensity", [0.05, 0.95])
def test_groups_are_not_told_to_whom_only_one_treatment_was_given(propensity: float) -> None:
    found = Split(np.array([0.0]), np.array([0.8]), np.array([propensity]))
    told = {v.name: v.value for v in values_of(found, "tace", 6.0)}
    assert str(told["group"]).startswith("not told")


def test_a_bundle_gives_back_what_was_written(tmp_path) -> None:
    model, features = system()
    model.write(tmp_path)
    again = Delicaite.read(tmp_path).split(features)
    before = model.split(features)
    np.testing.assert_allclose(again.own, before.own)
    np.testing.assert_allclose(again.interaction, before.interaction)
    np.testing.assert_allclose(again.propensity, 1 / (1 + np.exp(-0.2 - 0.5 * features.clinical[:, 0])))
    assert np.ptp(before.interaction) > 0


def test_features_of_different_lengths_are_refused(tmp_path) -> None:
    model, _features = system()
    model.write(tmp_path)
    stored = load_file(tmp_path / WEIGHTS)
    save_file({**stored, "radiomics.mean": stored["radiomics.mean"][:-1].clone()}, tmp_path / WEIGHTS)
    with pytest.raises(ModelError, match="length"):
        Delicaite.read(tmp_path)


def test_reduction_clips_far_features() -> None:
    reduction = Reduction(np.array([0]), np.zeros(1), np.ones(1), np.ones((1, 1)))
    assert reduction.apply(np.array([[100.0]]))[0, 0] == 5.0
