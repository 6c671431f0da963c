"""The table of tasks, one row each."""

import warnings

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import BinaryF1Score, BinaryMatthewsCorrCoef, MulticlassAccuracy
from torchmetrics.regression import PearsonCorrCoef, SpearmanCorrCoef
from typing_extensions import override

from axformer_lightning.tasks.squad import SquadMetrics, SquadV2Metrics, entry_of
from axformer_lightning.tasks.task import Task

PAIR = ("sentence1", "sentence2")
ENTAILMENT = ("entailment", "not_entailment")


class Pearson(PearsonCorrCoef):
    """Pearson's correlation, 0 for constant predictions, like Spearman's in torchmetrics.

    Example:
        >>> from torch import tensor
        >>> Pearson()(tensor([1.0, 2.0, 3.0]), tensor([0.5, 1.0, 1.5]))
        tensor(1.)
    """

    higher_is_better = True  # torchmetrics leaves it open, and then the metric cannot decide

    @override
    def compute(self) -> Tensor:
        return super().compute().nan_to_num(0.0)


class Matthews(BinaryMatthewsCorrCoef):
    """Matthews' correlation, 0 for constant predictions or labels as in GLUE, where torchmetrics 1.9 has other values.

    Example:
        >>> from torch import tensor
        >>> Matthews()(tensor([1, 1, 1]), tensor([1, 1, 0]))
        tensor(0.)
    """

    @override
    def compute(self) -> Tensor:
        is_constant = any((self.confmat.sum(side) == 0).any() for side in (0, 1))
        return self.confmat.new_zeros((), dtype=torch.float32) if is_constant else super().compute()


def _accuracy(num_classes: int = 2) -> dict[str, Metric]:
    return {"accuracy": MulticlassAccuracy(num_classes=num_classes, average="micro")}


def _accuracy_and_f1() -> dict[str, Metric]:
    return {**_accuracy(), "f1": BinaryF1Score()}


def _matthews_correlation() -> dict[str, Metric]:
    return {"matthews_correlation": Matthews()}


def _correlations() -> dict[str, Metric]:
    with warnings.catch_warnings():  # Spearman's keeps all predictions, which are few
        warnings.simplefilter("ignore", UserWarning)
        return {"pearson": Pearson(), "spearman": SpearmanCorrCoef()}


def _exact_match_and_f1(make: type[Metric]) -> dict[str, Metric]:
    return {name: entry_of(make(), name) for name in ("exact_match", "f1")}


TASKS: dict[str, Task] = {
    "demo": Task("classification", _accuracy_and_f1, labels=("different", "same")),
    "cola": Task(
        "classification",
        _matthews_correlation,
        labels=("unacceptable", "acceptable"),
        folder="CoLA",
        header=("source", "label", "star", "sentence"),
        text_columns=("sentence",),
        label_column="label",
        hub=("nyu-mll/glue", "cola"),
        test={"CoLA": "test"},
    ),
    "sst2": Task(
        "classification",
        _accuracy,
        labels=("negative", "positive"),
        folder="SST-2",
        text_columns=("sentence",),
        label_column="label",
        hub=("nyu-mll/glue", "sst2"),
        test={"SST-2": "test"},
        apart="sentences",  # train also holds their phrases, nine of ten rows; dev does not
    ),
    "mrpc": Task(
        "classification",
        _accuracy_and_f1,
        labels=("not_equivalent", "equivalent"),
        folder="MRPC",
        text_columns=("#1 String", "#2 String"),
        label_column="Quality",
        hub=("nyu-mll/glue", "mrpc"),
        hub_columns=PAIR,
        test={"MRPC": "test"},
    ),
    "stsb": Task(
        "regression",
        _correlations,
        bounds=(0.0, 5.0),
        folder="STS-B",
        text_columns=PAIR,
        label_column="score",
        hub=("nyu-mll/glue", "stsb"),
        test={"STS-B": "test"},
    ),
    "qqp": Task(
        "classification",
        _accuracy_and_f1,
        labels=("not_duplicate", "duplicate"),
        folder="QQP",
        text_columns=("question1", "question2"),
        label_column="is_duplicate",
        skips_ragged=True,  # a few questions of the official train.tsv have a line break in them
        hub=("nyu-mll/glue", "qqp"),
        test={"QQP": "test"},
    ),
    "mnli": Task(
        "classification",
        lambda: _accuracy(3),
        labels=("entailment", "neutral", "contradiction"),
        folder="MNLI",
        text_columns=PAIR,
        label_column="gold_label",
        named_labels=True,
        hub=("nyu-mll/glue", "mnli"),
        hub_columns=("premise", "hypothesis"),
        dev={"": "validation_matched", "_mismatched": "validation_mismatched"},
        test={"MNLI-m": "test_matched", "MNLI-mm": "test_mismatched"},
        apart="texts",  # train has three hypotheses for each premise; dev has other premises
    ),
    "qnli": Task(
        "classification",
        _accuracy,
        labels=ENTAILMENT,
        folder="QNLI",
        text_columns=("question", "sentence"),
        label_column="label",
        named_labels=True,
        hub=("nyu-mll/glue", "qnli"),
        test={"QNLI": "test"},
        apart="texts",  # train repeats one text in ten; dev is of other articles
    ),
    "rte": Task(
        "classification",
        _accuracy,
        labels=ENTAILMENT,
        folder="RTE",
        text_columns=PAIR,
        label_column="label",
        named_labels=True,
        hub=("nyu-mll/glue", "rte"),
        test={"RTE": "test"},
    ),
    "wnli": Task(
        "classification",
        _accuracy,
        labels=("not_entailment", "entailment"),
        folder="WNLI",
        text_columns=PAIR,
        label_column="label",
        hub=("nyu-mll/glue", "wnli"),
        test={"WNLI": "test"},
    ),
    "squad": Task(
        "question_answering",
        lambda: _exact_match_and_f1(SquadMetrics),
        reported=lambda: {"squad": SquadMetrics()},
        folder="",
        version="-v1.1",
        hub=("rajpurkar/squad",),
    ),
    "squad_v2": Task(
        "question_answering",
        lambda: _exact_match_and_f1(SquadV2Metrics),
        reported=lambda: {"squad_v2": SquadV2Metrics()},
        folder="",
        version="-v2.0",
        hub=("rajpurkar/squad_v2",),
    ),
}
