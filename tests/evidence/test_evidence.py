import numpy as np
import pytest
import torch
from scipy import stats

from axformer_lightning.evidence import (
    METRICS,
    Predictions,
    calibration_of,
    compare,
    compared,
    corrected,
    gains_resampled,
    holm,
    mcnemar,
    mean_of,
)
from axformer_lightning.evidence.resampling import draws
from axformer_lightning.tasks import TASKS


def said(labels, preds, num_classes=2):
    return Predictions({"labels": np.asarray(labels), "logits": np.eye(num_classes)[np.asarray(preds)]})


def coins(num_samples, share_right, seed):
    labels = np.tile([0, 1], num_samples // 2)
    right = np.random.default_rng(seed).random(num_samples) < share_right
    return said(labels, np.where(right, labels, 1 - labels))


@pytest.mark.parametrize("task", [name for name in TASKS if not name.startswith("squad")])
def test_metrics_are_those_of_the_tasks_whatever_is_resampled(task):
    random = np.random.default_rng(1)
    kind, classes = TASKS[task].kind, max(2, len(TASKS[task].labels))
    labels = random.integers(classes, size=60).astype(float if kind == "regression" else int)
    logits = random.normal(size=60) + labels if kind == "regression" else random.normal(size=(60, classes))
    predictions = Predictions({"labels": labels, "logits": logits})
    rows_RN = next(draws(60, 7))
    for name, metric in TASKS[task].metrics().items():
        values_R = predictions.value(name, rows_RN)
        assert values_R.shape == (7,)
        for rows, value in zip(rows_RN, values_R, strict=True):
            metric.reset()
            metric.update(torch.from_numpy(predictions.preds[rows]), torch.from_numpy(labels[rows]))
            assert value == pytest.approx(float(metric.compute()), abs=1e-5)


@pytest.mark.parametrize(
    ("name", "task"),
    [("f1", "mrpc"), ("matthews_correlation", "cola"), ("pearson", "stsb"), ("spearman", "stsb")],
)
@pytest.mark.filterwarnings("ignore:The variance of predictions")
def test_a_metric_of_constant_predictions_is_zero_as_that_of_the_tasks(name, task):
    labels, preds, metric = np.array([0, 1, 1]), np.zeros(3, dtype=int), TASKS[task].metric(name)
    if task == "stsb":
        labels, preds = labels.astype(float), preds.astype(float)
    assert METRICS[name](labels, preds) == 0
    metric.update(torch.from_numpy(preds), torch.from_numpy(labels))
    assert float(metric.compute()) == 0


def test_mcnemar_is_that_of_a_fair_coin():
    labels = np.zeros(30, dtype=int)
    first, second = np.zeros(30, dtype=int), np.zeros(30, dtype=int)
    first[:3], second[3:13] = 1, 1
    found = mcnemar(said(labels, first), said(labels, second))
    assert (found.lost, found.won) == (10, 3)
    assert found.p == pytest.approx(2 * stats.binom.cdf(3, 13, 0.5))


def test_the_interval_holds_the_true_gain_about_as_often_as_it_says():
    held = 0
    for seed in range(200):
        labels = np.zeros(300, dtype=int)
        random = np.random.default_rng(seed)
        wrong = random.random(300) < 0.2
        mended = wrong & (random.random(300) < 0.25)  # gains 5 points
        pair = said(labels, wrong.astype(int)), said(labels, (wrong & ~mended).astype(int))
        low, high = np.quantile(gains_resampled([pair], "accuracy", resamples=400), (0.025, 0.975))
        held += low <= 0.05 <= high
    assert 0.90 <= held / 200 <= 0.99


def test_the_shortcut_for_means_gives_what_the_metric_gives():
    pairs = [(coins(200, 0.7, 2 * seed), coins(200, 0.8, 2 * seed + 1)) for seed in range(3)]
    rows_RN = np.concatenate(list(draws(200, 50)))
    long = np.mean([b.value("accuracy", rows_RN) - a.value("accuracy", rows_RN) for a, b in pairs], axis=0)
    np.testing.assert_allclose(gains_resampled(pairs, "accuracy", resamples=50), long)


def test_more_seeds_do_not_make_more_dev_samples():
    pair = coins(200, 0.7, 0), coins(200, 0.8, 1)
    one, many = (gains_resampled([pair] * times, "f1", resamples=300).std() for times in (1, 5))
    assert one == pytest.approx(many)


@pytest.mark.parametrize(
    ("other", "words"),
    [(said([0, 1, 1], [0, 1, 1]), "got 2 and 3 samples"), (said([1, 1], [0, 1]), "different labels")],
)
def test_models_on_other_samples_are_not_compared(other, words):
    one = said([0, 1], [0, 1])
    with pytest.raises(ValueError, match=words):
        gains_resampled([(one, other)], "accuracy")
    with pytest.raises(ValueError, match=words):
        gains_resampled([(one, one), (other, other)], "accuracy")


def test_the_same_models_are_not_distinguishable():
    model = coins(400, 0.8, 0)
    for times in (1, 3):
        found = compare([(0.8, 0.8)] * times, "accuracy", [(model, model)] * times)
        assert found.verdict == "not distinguishable at 95 %"
        assert (found.low, found.high, found.p) == (0, 0, 1)


def test_two_seeds_that_happen_to_agree_are_no_proof():
    pairs = [(coins(200, 0.8, 2 * seed), coins(200, 0.8, 2 * seed + 1)) for seed in range(2)]
    found = compare([(0.800, 0.805)] * 2, "accuracy", pairs)
    assert found.over_seeds.p == 0
    assert found.verdict == "not distinguishable at 95 %"


@pytest.mark.parametrize(("share", "verdict"), [(0.95, "better"), (0.6, "worse")])
def test_a_large_difference_is_seen_and_said_with_its_direction(share, verdict):
    pairs = [(coins(400, 0.8, 2 * seed), coins(400, share, 2 * seed + 1)) for seed in range(3)]
    values = [tuple(float(model.value("accuracy")) for model in pair) for pair in pairs]
    found = compare(values, "accuracy", pairs)
    assert found.verdict == verdict
    assert found.loses_no_more_than(1.0) is (verdict == "better")
    assert "cannot reach 5 % (its least p is 0.25)" in found.limits


def test_one_seed_says_so_and_without_predictions_nothing():
    pair = coins(400, 0.8, 0), coins(400, 0.95, 1)
    values = [tuple(float(model.value("accuracy")) for model in pair)]
    found = compare(values, "accuracy", [pair])
    assert found.verdict == "better"
    assert found.test.p == found.p
    assert found.limits == "One seed: said of these two models, not of the method."
    blind = compare(values, "accuracy")
    assert (blind.verdict, blind.p, blind.loses_no_more_than(5)) == ("not distinguishable at 95 %", None, None)
    assert "nothing can be tested" in blind.limits


def test_one_dev_sample_proves_nothing():
    right, wrong = (Predictions({"exact_match": np.array([value])}) for value in (1.0, 0.0))
    for times in (1, 3):
        found = compare([(0.0, 1.0)] * times, "exact_match", [(wrong, right)] * times)
        assert (found.verdict, found.p) == ("not distinguishable at 95 %", None)


def test_without_predictions_fewer_than_six_seeds_have_no_verdict():
    for num_seeds in range(2, 6):
        blind = compare([(0.800, 0.805)] * num_seeds, "accuracy")
        assert (blind.verdict, blind.p, blind.loses_no_more_than(5)) == ("not distinguishable at 95 %", None, None)
        assert blind.limits.startswith(f"{num_seeds} seeds without predictions: nothing can be tested")
    enough = compare([(0.800, 0.805)] * 6, "accuracy")
    assert (enough.verdict, enough.loses_no_more_than(0)) == ("better", True)
    assert enough.limits == "No predictions: the choice of dev samples is not tested."


def test_a_floor_is_one_sided():
    found = compared([-0.5, -0.4, -0.6, -0.5, -0.45, -0.55])
    assert found.least == pytest.approx(found.over_seeds.least)
    assert found.over_seeds.low < found.over_seeds.least < found.over_seeds.mean
    assert found.loses_no_more_than(0.6)
    assert not found.loses_no_more_than(0.5)


def test_a_floor_is_held_by_seeds_and_by_samples():
    steady = np.linspace(-0.011, -0.001, 100)  # of resamples, as fractions
    for gains, resampled in (([-0.5, -0.6, -0.4], steady), ([-0.5, -3.0, 2.0], steady / 100)):
        found = compared(gains, resampled)
        bounds = found.over_seeds.least, 100 * np.quantile(resampled, 0.05)
        assert found.least == pytest.approx(min(bounds))


def test_holm_is_not_smaller_than_p_and_keeps_their_order():
    random = np.random.default_rng(0)
    for _ in range(50):
        ps = random.random(6).tolist()
        found = holm(ps)
        assert all(p <= q <= min(1, 6 * p) for p, q in zip(ps, found, strict=True))
        assert min(found) == min(1, 6 * min(ps))
        assert [ps.index(p) for p in sorted(ps)] == sorted(range(6), key=lambda i: (found[i], ps[i]))


def test_several_comparisons_claim_less_than_one():
    one = compared([2.0, 1.0, 3.0, -1.0, 2.0, 2.0])
    blind = compare([(0.80, 0.81)], "accuracy")
    assert one.verdict == "better"
    together, three = corrected([one, blind, one, one]), pytest.approx(3 * one.p)
    assert [found.corrected_p for found in together] == [three, None, three, three]
    assert {found.verdict for found in together} == {"not distinguishable at 95 %"}


def test_calibration_is_that_of_torchmetrics():
    from torchmetrics.functional.classification import multiclass_calibration_error

    random = np.random.default_rng(0)
    labels, logits = random.integers(3, size=200), random.normal(size=(200, 3)) * 3
    found = calibration_of(Predictions({"labels": labels, "logits": logits}))
    probs = torch.from_numpy(logits).softmax(-1)
    want = float(multiclass_calibration_error(probs, torch.from_numpy(labels), 3, n_bins=15))
    assert found.error == pytest.approx(want, abs=1e-5)
    assert calibration_of(Predictions({"labels": labels, "logits": logits[:, 0]})) is None


def test_predictions_are_read_as_they_were_written(tmp_path):
    random = np.random.default_rng(0)
    written = Predictions({"labels": np.array([0, 1]), "logits": random.normal(size=(2, 2)).astype(np.float32)})
    written.save(tmp_path)
    written.save(tmp_path, "_mismatched")
    assert {path.name for path in tmp_path.iterdir()} == {"dev_predictions.npz", "dev_predictions_mismatched.npz"}
    read = Predictions.load(tmp_path, "_mismatched")
    assert {*read.arrays} == {"labels", "logits"}
    np.testing.assert_array_equal(read.arrays["logits"], written.arrays["logits"])


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_a_file_that_holds_no_predictions_is_named(tmp_path, content):
    path = tmp_path / "dev_predictions.npz"
    said([0, 1], [0, 1]).save(tmp_path)
    path.write_bytes(path.read_bytes()[:-40] if content is None else content)
    with pytest.raises(ValueError, match="Cannot read the predictions"):
        Predictions.load(tmp_path)


@pytest.mark.parametrize(
    "arrays",
    [
        {"labels": 3},
        {"labels": np.zeros((3, 2)), "logits": np.zeros((3, 2))},
        {"labels": np.zeros(3), "logits": np.zeros((3, 2, 2))},
        {"labels": np.zeros(3), "logits": np.array(["a", "b", "c"])},
        {"f1": np.zeros((3, 1))},
    ],
)
def test_a_file_whose_arrays_are_no_numbers_of_samples_is_named(tmp_path, arrays):
    np.savez(tmp_path / "dev_predictions.npz", **arrays)
    with pytest.raises(ValueError, match=r"Cannot read the predictions .* Expected a number for each sample"):
        Predictions.load(tmp_path)


def test_no_samples_have_no_calibration():
    assert calibration_of(Predictions({"labels": np.zeros(0, dtype=int), "logits": np.zeros((0, 2))})) is None


def test_arrays_of_different_lengths_and_unknown_metrics_are_refused():
    with pytest.raises(ValueError, match="Expected arrays of one length"):
        Predictions({"labels": np.zeros(2), "logits": np.zeros((3, 2))})
    with pytest.raises(ValueError, match="'bleu'"):
        said([0, 1], [0, 1]).value("bleu")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize("num_seeds", [1, 2, 6])
def test_a_metric_that_is_no_number_is_neither_better_nor_worse(number, num_seeds):
    values = [(0.8, 0.9)] * (num_seeds - 1) + [(0.8, number)]
    random = coins(100, 0.8, seed=0)
    for found in (compare(values, "accuracy"), compare(values, "accuracy", [(random, random)] * num_seeds)):
        assert (found.verdict, found.p, found.least) == ("not distinguishable at 95 %", None, None)
        assert "no number" in found.limits
    assert mean_of([number, -number]).p is None


def test_a_metric_that_is_no_number_leaves_other_comparisons_as_they_are():
    sure = compare([(0.80, 0.82), (0.80, 0.821), (0.80, 0.819)] * 2, "accuracy")
    diverged = compare([(0.8, float("nan"))] * 6, "accuracy")
    assert corrected([diverged, sure])[1] == corrected([sure])[0]


@pytest.mark.parametrize("p", [float("nan"), -0.1, 1.5])
def test_what_is_no_p_value_is_not_corrected(p):
    with pytest.raises(ValueError, match="Expected p-values from 0 to 1, got"):
        holm([0.01, p])
