import copy
import re
import string
from collections import Counter
from random import Random

import pytest
import torch
from torchmetrics import MetricCollection
from torchmetrics.text import SQuAD

from axformer_lightning.tasks.squad import SquadMetrics, SquadV2Metrics, entry_of

WORDS = ("the", "otter", "Old", "pier.", "a", "lamp", "lamp", "-")


def phrase(rng, least=1):
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(least, 4)))


def questions(seed, count=40, share_impossible=0.5):
    """Random answers to random questions, with scores that all differ."""
    rng = Random(seed)
    scores = rng.sample(range(-500, 500), count)
    preds, target = [], []
    for i in range(count):
        texts = [] if rng.random() < share_impossible else [phrase(rng) for _ in range(rng.randint(1, 3))]
        text = rng.choice([*texts, phrase(rng, 0)])
        preds.append({"id": str(i), "prediction_text": text, "no_answer_score": scores[i] / 100})
        target.append({"id": str(i), "answers": {"text": texts, "answer_start": [0] * len(texts)}})
    return preds, target


def tokens(text):
    kept = "".join(character for character in text.lower() if character not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", kept).split()


def exact_and_f1(prediction, texts):
    """Score one question from the definition, without torchmetrics."""
    given, best = tokens(prediction), (0.0, 0.0)
    for truth in [tokens(text) for text in texts if tokens(text)] or [[]]:
        shared = sum((Counter(given) & Counter(truth)).values())
        f1 = 2 * shared / (len(given) + len(truth)) if given and truth else float(given == truth)
        best = max(best[0], float(given == truth)), max(best[1], f1)
    return best


def at_threshold(preds, target, threshold):
    """Return exact match and F1 of every question if a score above the threshold means "no answer"."""
    scores = []
    for pred, truth in zip(preds, target, strict=True):
        text, texts = pred["prediction_text"], truth["answers"]["text"]
        is_silent = pred["no_answer_score"] > threshold
        scores.append((float(not texts),) * 2 if is_silent else exact_and_f1(text, texts))
    return scores


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def compute(metric, preds, target):
    metric.update(preds, target)
    return {name: value.item() for name, value in metric.compute().items()}


@pytest.mark.parametrize("seed", range(5))
def test_v1_is_the_official_metric_as_a_fraction(seed):
    preds, target = questions(seed, share_impossible=0)
    found = compute(SquadMetrics(), preds, target)
    official = compute(SQuAD(), preds, target)
    assert found == pytest.approx({name: value / 100 for name, value in official.items()})
    assert 0 < found["exact_match"] < found["f1"] < 1


@pytest.mark.parametrize("seed", range(10))
def test_v2_at_threshold_zero_is_the_definition(seed):
    preds, target = questions(seed)
    scores = at_threshold(preds, target, 0)
    parts = {
        "": scores,
        "has_answer_": [score for score, truth in zip(scores, target, strict=True) if truth["answers"]["text"]],
        "no_answer_": [score for score, truth in zip(scores, target, strict=True) if not truth["answers"]["text"]],
    }
    expected = {
        prefix + name: mean(score[i] for score in part)
        for prefix, part in parts.items()
        for i, name in enumerate(("exact_match", "f1"))
    }
    found = compute(SquadV2Metrics(), preds, target)
    assert {name: value for name, value in found.items() if "best" not in name} == pytest.approx(expected)


@pytest.mark.parametrize("share_impossible", [0.0, 0.2, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("seed", range(6))
def test_the_best_threshold_is_the_best_of_all(seed, share_impossible):
    preds, target = questions(seed, 25, share_impossible)
    for pred, truth in zip(preds, target, strict=True):
        if not tokens(pred["prediction_text"]) and not truth["answers"]["text"]:
            pred["prediction_text"] = ""  # here the official search looks at the text as it is
    found = compute(SquadV2Metrics(), preds, target)
    thresholds = sorted(pred["no_answer_score"] for pred in preds)
    for i, name in enumerate(("exact_match", "f1")):
        silent = mean(not truth["answers"]["text"] for truth in target)
        means = [mean(score[i] for score in at_threshold(preds, target, threshold)) for threshold in thresholds]
        best = max(silent, *means)
        assert found[f"best_{name}"] == pytest.approx(best)
        first = next((t for t, m in zip(thresholds, means, strict=True) if m > best - 1e-9), 0.0)
        threshold = 0.0 if silent > best - 1e-9 else first
        assert found[f"best_{name}_threshold"] == pytest.approx(threshold)


@pytest.mark.parametrize(("share_impossible", "absent"), [(0.0, "no_answer_"), (1.0, "has_answer_")])
def test_a_kind_of_question_that_there_is_none_of_has_no_metrics(share_impossible, absent):
    found = compute(SquadV2Metrics(), *questions(0, share_impossible=share_impossible))
    assert len(found) == 8
    assert not [name for name in found if name.startswith(absent)]


def test_questions_may_come_in_batches_and_from_several_processes():
    preds, target = questions(7)
    whole = compute(SquadV2Metrics(), preds, target)
    first, second = SquadV2Metrics(), SquadV2Metrics()
    for begin in range(0, 20, 6):
        first.update(preds[begin : min(20, begin + 6)], target[begin : min(20, begin + 6)])
    second.update(preds[20:], target[20:])
    second.merge_state(first)
    assert {name: value.item() for name, value in second.compute().items()} == pytest.approx(whole)


def test_a_prediction_without_a_score_is_refused():
    with pytest.raises(ValueError, match=r"`no_answer_score` in every prediction, got \['id', 'prediction_text'\]"):
        SquadV2Metrics().update([{"id": "1", "prediction_text": ""}], questions(0, 1)[1])


@pytest.mark.parametrize("make", [SquadMetrics, SquadV2Metrics])
def test_an_entry_is_a_metric_of_its_own(make):
    preds, target = questions(3, share_impossible=0 if make is SquadMetrics else 0.5)
    expected = compute(make(), preds, target)
    entry = entry_of(make(), "f1")
    assert entry.higher_is_better
    for metric in (entry, copy.deepcopy(entry).to("cpu")):
        metric.update(preds[:10], target[:10])
        assert metric.compute().item() == pytest.approx(compute(make(), preds[:10], target[:10])["f1"])
        metric.update(preds[10:], target[10:])
        assert metric.compute().item() == pytest.approx(expected["f1"])
        metric.reset()
        assert metric(preds, target).item() == pytest.approx(expected["f1"])
        metric.reset()
        metric.update(preds[:10], target[:10])
        assert metric.compute().item() == pytest.approx(compute(make(), preds[:10], target[:10])["f1"])


def test_a_collection_has_the_entries_by_their_names():
    preds, target = questions(4)
    whole = MetricCollection({"squad": SquadV2Metrics()})
    entries = MetricCollection({name: entry_of(SquadV2Metrics(), name) for name in ("exact_match", "f1")})
    for collection in (whole, entries):
        collection.update(preds[:20], target[:20])
        collection.update(preds[20:], target[20:])
    found, expected = whole.compute(), compute(SquadV2Metrics(), preds, target)
    assert {name: value.item() for name, value in found.items()} == expected
    assert {name: value.item() for name, value in entries.compute().items()} == {
        name: expected[name] for name in ("exact_match", "f1")
    }


def test_what_is_kept_is_a_few_numbers_per_question():
    metric = SquadV2Metrics()
    metric.update(*questions(0))
    assert [tuple(rows.shape) for rows in metric.scores] == [(40, 5)]
    assert metric.scores[0].dtype == torch.float32
