"""A task as data: everything that differs between tasks, so that a task is a row and not code."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from torchmetrics import Metric, MetricCollection

Kind = Literal["classification", "regression", "question_answering"]
Apart = Literal["rows", "texts", "sentences"]
UNLABELLED = -1  # in the place of a class or a number, as in GLUE's test sets


@dataclass(frozen=True)
class Task:
    """One task.

    The parts of a data set have the hub's names (`validation_matched`); the names of official files follow from them
    (`dev_matched.tsv`).

    Args:
        kind: the kind of prediction: a class, a number, or a span of the context.
        metrics: makes the metrics that can decide, by their official names.
        reported: makes the reported metrics instead, if one metric computes all of them.
        labels: names of the classes, in the order of their numbers; empty unless classes are predicted.
        bounds: least and largest value of a predicted number.
        folder: folder of its official files in the data directory; None if the data are generated.
        version: suffix of the names of its official files.
        header: columns of the labelled official files, if these have no header of their own.
        text_columns: columns of the official files that hold the one or two texts.
        label_column: column of the official files that holds the label.
        named_labels: whether the official files hold the names of labels rather than their numbers.
        skips_ragged: whether rows with too few or too many fields are skipped rather than refused.
        hub: repository on the hub, and configuration if there are several.
        hub_columns: the text columns on the hub, if they have other names.
        dev: the part of each dev set, by the suffix of its metrics' names.
        test: the part of each test set, by the name of its file on the GLUE server; empty if there is no such file.
        apart: what the search set shares with no training row, as dev shares none (see
            :func:`~axformer_lightning.tasks.split_off`).
    """

    kind: Kind
    metrics: Callable[[], dict[str, Metric]]
    reported: Callable[[], dict[str, Metric]] | None = None
    labels: tuple[str, ...] = ()
    bounds: tuple[float, float] = (0.0, 1.0)
    folder: str | None = None
    version: str = ""
    header: tuple[str, ...] = ()
    text_columns: tuple[str, ...] = ()
    label_column: str = ""
    named_labels: bool = False
    skips_ragged: bool = False
    hub: tuple[str, ...] = ()
    hub_columns: tuple[str, ...] = ()
    dev: Mapping[str, str] = field(default_factory=lambda: {"": "validation"})
    test: Mapping[str, str] = field(default_factory=dict)
    apart: Apart = "rows"

    @property
    def data_variable(self) -> str:
        """The environment variable that names the directory of the official files."""
        return "SQUAD_DIR" if self.kind == "question_answering" else "GLUE_DIR"

    def file(self, part: str) -> str:
        """Return the path of a part's official file, relative to the data directory.

        Example:
            >>> from axformer_lightning.tasks import TASKS
            >>> TASKS["mnli"].file("validation_matched"), TASKS["squad"].file("train")
            ('MNLI/dev_matched.tsv', 'train-v1.1.json')
        """
        folder = f"{self.folder}/" if self.folder else ""
        suffix = "json" if self.kind == "question_answering" else "tsv"
        return f"{folder}{part.replace('validation', 'dev')}{self.version}.{suffix}"

    def collection(self) -> MetricCollection:
        """Return the reported metrics as a collection, updated with the same predictions and targets."""
        return MetricCollection((self.reported or self.metrics)())  # type: ignore[arg-type]

    def metric(self, name: str) -> Metric:
        """Return one of the metrics that can decide.

        Raises:
            ValueError: if the task has no such metric.

        Example:
            >>> from axformer_lightning.tasks import TASKS
            >>> TASKS["mrpc"].metric("f1")
            BinaryF1Score()
        """
        metrics = self.metrics()
        if name not in metrics:
            raise ValueError(f"Expected `task.headline` to be a metric of the task, {sorted(metrics)}, got {name!r}.")
        return metrics[name]
