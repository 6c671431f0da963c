"""The table of tasks: a row each."""

from collections.abc import Callable
from dataclasses import dataclass

from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import BinaryF1Score, MulticlassAccuracy


@dataclass(frozen=True)
class Task:
    """One task of text classification.

    Args:
        labels: names of the classes, in the order of their numbers.
        metrics: makes the task's metrics, by their official names.
        headline: the metric that `criterion=metric` decides by.
        folder: folder of its official files in the data directory; None where the project makes the data.
        text_columns: columns of the official files that hold the one or two texts.
        label_column: column of the official files that holds the label.
        hub: repository and configuration on the hub.
        hub_columns: the text columns there.
    """

    labels: tuple[str, ...]
    metrics: Callable[[], dict[str, Metric]]
    headline: str
    folder: str | None = None
    text_columns: tuple[str, ...] = ()
    label_column: str = ""
    hub: tuple[str, str] | None = None
    hub_columns: tuple[str, ...] = ()

    def collection(self) -> MetricCollection:
        """Return the task's metrics, each updated with the same predictions and targets."""
        return MetricCollection(self.metrics())  # type: ignore[arg-type]

    def headline_metric(self) -> Metric:
        """Return a metric to decide by."""
        return self.metrics()[self.headline]


def _accuracy_and_f1() -> dict[str, Metric]:
    return {"accuracy": MulticlassAccuracy(num_classes=2, average="micro"), "f1": BinaryF1Score()}


TASKS: dict[str, Task] = {
    "demo": Task(labels=("different", "same"), metrics=_accuracy_and_f1, headline="accuracy"),
    "mrpc": Task(
        labels=("not_equivalent", "equivalent"),
        metrics=_accuracy_and_f1,
        headline="f1",
        folder="MRPC",
        text_columns=("#1 String", "#2 String"),
        label_column="Quality",
        hub=("nyu-mll/glue", "mrpc"),
        hub_columns=("sentence1", "sentence2"),
    ),
}
