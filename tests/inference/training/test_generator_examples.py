from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from inference.errors import TrainingDataError
from inference.models.flow.conditions import CONDITIONS, MULTIPLE, without_condition
from inference.models.flow.network import Drawn, NetworkSettings
from inference.models.flow.sampler import Draw
from inference.training.cohort import NO_VALUE, Cohort, PatientImages, Split
from inference.training.cohort_rows import clinical_of
from inference.training.features import crop_of, lesion_ml, patient_table
from inference.training.generator import train_generator
from inference.training.generator_data import Batch, Example, Examples, View, batch_of, conditions_of
from inference.training.generator_losses import (
    DeepFeatures,
    GeneratorTraining,
    change_loss,
    flow_loss,
    noise_level,
    regression_loss,
    tissue_loss,
    validation,
)
from inference.training.generator_networks import new_network
from inference.training.network_channels import drawn_images
from inference.training.outcome import OutcomeTraining, fit_outcome_model
from inference.training.outcome_figures import evaluate_outcome_model
from inference.training.outcome_trees import TreeTraining
from tests.builders.flow_bundles import REGIMENS, SMALL, invented
from tests.builders.stand_in_cohort import write_stand_in

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return write_stand_in(tmp_path_factory.mktemp("cohort"), patients=4, size=32, imaged=3, seed=3)


@pytest.fixture(scope="module")
def examples(cohort: Cohort) -> Examples:
    return Examples([cohort], [(0, p) for p in cohort.ids(Split.TRAIN, Split.TEST)], REGIMENS)


@pytest.fixture(scope="module")
def example(examples: Examples) -> Example:
    found = examples.get(0)
    assert found is not None
    return found


def batch(example: Example, view: View | None = None) -> Batch:
    conditions = [conditions_of(example, t) for t in example.targets]
    return batch_of(example, example.targets, conditions, view or View.whole(example), CPU)


def perfect(b: Batch) -> Drawn:
    """Return the answer of a network that knows the follow-up's tissues."""
    whole = torch.cat([1.0 - b.fractions.sum(dim=1, keepdim=True), b.fractions], dim=1)
    return Drawn(torch.log(whole.clamp_min(1e-6)), torch.zeros((len(whole), 8, *whole.shape[2:])))


def test_request_is_what_the_follow_up_has(cohort, example) -> None:
    seen = cohort.images(example_id := cohort.ids(Split.TRAIN, Split.TEST)[0]).follow_ups[0]
    assert example_id == cohort.ids(Split.TRAIN, Split.TEST)[0]
    volumes = lesion_ml(seen.fractions, seen.lesion)
    request = example.targets[0].request
    for number in request.viable:
        assert request.viable[number] == pytest.approx(volumes[number, 0])
        assert request.necrosis[number] == pytest.approx(volumes[number, 1])
    assert conditions_of(example, example.targets[0]).shape == (CONDITIONS,)


def test_windows_hold_a_lesion_and_are_aligned(example) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        view = View.drawn(example, rng, MULTIPLE)
        assert all(s.start % 2 == 0 and s.stop - s.start == MULTIPLE for s in view.window)
        assert example.prepared.lesion[view.window].any()


def test_mirrored_view_mirrors_everything(example) -> None:
    whole = View.whole(example)
    plain, mirrored = batch(example), batch(example, dataclasses.replace(whole, mirrored=True))
    for name in ("fields", "requests", "fractions", "change", "weight"):
        assert torch.equal(getattr(plain, name).flip(-2), getattr(mirrored, name)), name
    assert torch.equal(plain.conditions, mirrored.conditions)


def test_examples_are_drawn_alike_whatever_is_kept_in_memory(cohort, examples) -> None:
    forgetful = Examples([cohort], examples.ids, REGIMENS, room=1)
    for seed in range(4):
        a, b = (e.drawn(np.random.default_rng(seed), 2) for e in (examples, forgetful))
        assert [t.months for t in a[1]] == [t.months for t in b[1]]
        assert np.array_equal(a[0].prepared.fields, b[0].prepared.fields)


def test_follow_ups_of_unknown_regimens_are_not_learned_from(cohort, examples) -> None:
    nothing = Examples([cohort], examples.ids, {})
    with pytest.raises(TrainingDataError):
        nothing.drawn(np.random.default_rng(0), 2)


def test_missing_phase_is_zero_in_fields_and_has_no_loss(cohort) -> None:
    patient = cohort.images(cohort.ids(Split.TRAIN, Split.TEST)[0])
    images = patient.images.copy()
    images[0] = NO_VALUE
    crop = crop_of(dataclasses.replace(patient, images=images))
    assert np.isnan(crop.images[0]).all()
    assert np.isfinite(crop.images[1]).all()


class Relabelled:
    """A cohort whose images are other phases, with the same numbers and one more in front."""

    def __init__(self, cohort: Cohort, phases: tuple[str, ...]) -> None:
        self.info = cohort.info.model_copy(update={"phases": phases})
        self._cohort = cohort

    def images(self, patient_id: str) -> PatientImages:
        patient = self._cohort.images(patient_id)
        return dataclasses.replace(
            patient,
            images=more(patient.images),
            clean=None if patient.clean is None else more(patient.clean),
            follow_ups=tuple(dataclasses.replace(f, images=more(f.images)) for f in patient.follow_ups),
        )


def more(images: np.ndarray) -> np.ndarray:
    return np.concatenate([np.full_like(images[:1], 7), images])


def test_the_network_sees_two_phases_whatever_else_a_cohort_has(cohort) -> None:
    patient_id = cohort.ids(Split.TRAIN, Split.TEST)[0]
    plain = cohort.images(patient_id)
    assert np.array_equal(drawn_images(cohort, patient_id).images, plain.images)
    mr = Relabelled(cohort, ("t2", "t1_arterial", "t1_portal_venous"))
    seen = drawn_images(mr, patient_id)
    assert np.array_equal(seen.images, plain.images)
    assert np.array_equal(seen.follow_ups[0].images, plain.follow_ups[0].images)
    swapped = drawn_images(Relabelled(cohort, ("t1_portal_venous", "t2", "t1_arterial")), patient_id)
    assert (swapped.images[1] == 7).all()
    assert np.array_equal(swapped.images[0], plain.images[1])
    portal = drawn_images(Relabelled(cohort, ("delayed", "unknown", "portal_venous")), patient_id)
    assert (portal.images[0] == NO_VALUE).all()
    assert np.array_equal(portal.images[1], plain.images[1])
    with pytest.raises(TrainingDataError, match="neither an arterial nor a portal venous"):
        drawn_images(Relabelled(cohort, ("t2", "delayed", "unknown")), patient_id)


def test_tissue_loss_is_least_for_the_true_tissues(example) -> None:
    b = batch(example)
    truth = float(tissue_loss(perfect(b), b, 4.0))
    wrong = Drawn(torch.zeros_like(perfect(b).logits), perfect(b).levels)
    assert truth < 0.5 * float(tissue_loss(wrong, b, 4.0))


def test_change_loss_follows_the_levels(example) -> None:
    b = batch(example)
    drawn = perfect(b)
    kept = float(change_loss(drawn, b))
    levels = drawn.levels.clone()
    # Levels of the stand-in patients: viable and dead tumour and lipiodol against liver, by 100 HU.
    for channel, level in enumerate((0.5, -0.25, -0.45, -0.75, 2.8, 2.5)):
        levels[:, channel] = level
    assert float(change_loss(Drawn(drawn.logits, levels), b)) < 0.3 * kept


def test_voxels_of_new_lesions_are_not_learned_from(example) -> None:
    b = batch(example)
    none = dataclasses.replace(b, weight=torch.zeros_like(b.weight))
    assert float(tissue_loss(perfect(b), none, 4.0)) == 0.0
    assert float(change_loss(perfect(b), none)) == 0.0


def test_deep_features_tell_a_drawn_follow_up_from_the_true_one(example) -> None:
    b = batch(example)
    network = new_network(NetworkSettings(conditions=CONDITIONS, widths=SMALL), 0)
    deep = DeepFeatures(network)
    logits = perfect(b).logits.requires_grad_(True)
    change = b.change
    same = deep(b, b.fractions, change)
    assert all(torch.equal(x, y) for x, y in zip(same, deep(b, b.fractions, change), strict=True))
    wrong = deep.difference(Drawn(0.0 * logits, perfect(b).levels), b)
    near = deep.difference(Drawn(logits, perfect(b).levels), b)
    assert float(near.detach()) < float(wrong.detach())
    near.backward()
    assert logits.grad is not None
    assert bool(logits.grad.abs().sum() > 0)
    assert all(p.grad is None for p in network.parameters())


def test_losses_are_the_same_for_the_same_step(examples) -> None:
    settings = GeneratorTraining(widths=SMALL, windows=(MULTIPLE,))
    network = new_network(NetworkSettings(conditions=CONDITIONS, widths=SMALL), 0)
    for loss in (regression_loss(examples, settings), flow_loss(examples, settings, None)):
        figures = []
        for _ in range(2):
            torch.manual_seed(5)
            figures.append(float(loss(network, np.random.default_rng(5)).detach()))
        assert figures[0] == figures[1]
        assert np.isfinite(figures[0])


@pytest.mark.parametrize("draw", list(Draw))
def test_validation_is_the_same_each_time_and_sees_what_was_learned(cohort, examples, draw) -> None:
    settings = GeneratorTraining(
        widths=SMALL, windows=(MULTIPLE,), validation_follow_ups=2, learning_rate=3e-3
    )
    network = new_network(NetworkSettings(conditions=CONDITIONS, widths=SMALL), 0)
    figure = validation(examples, settings, draw)
    with torch.no_grad():
        before, again = figure(network.eval()), figure(network)
    loss = (
        regression_loss(examples, settings)
        if draw is Draw.REGRESSION
        else flow_loss(examples, settings, None)
    )
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    torch.manual_seed(0)
    for step in range(60):
        optimiser.zero_grad()
        loss(network.train(), np.random.default_rng(step)).backward()
        optimiser.step()
    with torch.no_grad():
        after = figure(network.eval())
    assert before == again
    assert after < 0.9 * before


def test_noise_levels_fill_the_scale_and_lean_to_noise() -> None:
    rng = np.random.default_rng(0)
    levels = [noise_level(rng, 3.0) for _ in range(500)]
    assert 0.0 < min(levels) < max(levels) <= 1.0
    assert np.mean(levels) > 0.6


def test_a_dropped_condition_tells_only_what_was_imaged() -> None:
    vector = np.arange(1.0, CONDITIONS + 1.0)
    dropped = without_condition(vector)
    assert np.count_nonzero(dropped) == 4  # modality, two phases, and the flag
    assert dropped[-1] == 1.0


def test_outcome_model_beats_climatology_on_outcomes_that_can_be_foretold() -> None:
    cohort, table = invented(240, seed=1)
    settings = OutcomeTraining(seed=2)
    model = fit_outcome_model(cohort, table, REGIMENS, settings)
    other, held = invented(150, seed=9)
    figures = evaluate_outcome_model(model, other, held, REGIMENS, settings)
    assert figures.patients == 150
    assert figures.crps_pct < 0.85 * figures.climatology_crps_pct
    assert 0.72 <= figures.coverage80 <= 0.90
    assert figures.auroc_response > 0.7


def test_outcome_model_does_not_make_up_what_cannot_be_foretold() -> None:
    settings = OutcomeTraining(trees=TreeTraining(trees=60))
    coverage = []
    for seed in (1, 2, 3):
        cohort, table = invented(240, seed=seed, slope=0.0)
        model = fit_outcome_model(cohort, table, REGIMENS, settings)
        other, held = invented(150, seed=9 + seed, slope=0.0)
        figures = evaluate_outcome_model(model, other, held, REGIMENS, settings)
        assert figures.crps_pct < 1.1 * figures.climatology_crps_pct
        coverage.append(figures.coverage80)
    # A fit to 240 patients is off by several hundredths; three together are less so.
    assert 0.74 <= sum(coverage) / len(coverage) <= 0.88


def test_features_are_measured_once(cohort, tmp_path) -> None:
    ids = cohort.ids(Split.TRAIN)[:1]
    kept = tmp_path / "features.json"
    first = patient_table(cohort, ids, kept, lambda *_: None)
    elsewhere = dataclasses.replace(cohort, folder=Path("nowhere"))
    again = patient_table(elsewhere, ids, kept, lambda *_: None)
    assert np.array_equal(first.volumes, again.volumes)
    changed = dataclasses.replace(elsewhere, info=cohort.info.model_copy(update={"sha256": "other"}))
    with pytest.raises(TrainingDataError):
        patient_table(changed, ids, kept, lambda *_: None)


def test_clinical_columns_become_values_of_their_kind() -> None:
    row = {"age": 61.0, "afp": float("nan"), "portal_vein_thrombosis": "no", "latent_aggressiveness": 2.0}
    record = clinical_of(row)
    assert record.values["age"].value == 61.0
    assert set(record.values) <= {"age", "portal_vein_thrombosis"}


def test_two_cohorts_of_one_modality_are_refused(cohort, tmp_path) -> None:
    with pytest.raises(TrainingDataError, match="one of CT and one of MR"):
        train_generator([cohort, cohort], tmp_path / "bundle", REGIMENS, GeneratorTraining(), lambda *_: None)


def test_work_of_another_training_is_not_continued(cohort, tmp_path) -> None:
    work = tmp_path / "bundle.work"
    work.mkdir()
    (work / "training.json").write_text("{}", encoding="utf-8")
    with pytest.raises(TrainingDataError, match=r"bundle\.work"):
        train_generator([cohort], tmp_path / "bundle", REGIMENS, GeneratorTraining(), lambda *_: None)
