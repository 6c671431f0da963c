"""Predictions for a test set, in the format of the GLUE server."""

import math
from collections.abc import Sequence
from pathlib import Path

from axformer_lightning.basics import write_atomically
from axformer_lightning.tasks.task import Task


def write_predictions(path: Path, task: Task, predictions: Sequence[float]) -> None:
    r"""Write one prediction per line, numbered from 0, under the header `index` and `prediction`.

    Args:
        path: the file; its folder is created.
        task: says how its official files write a label.
        predictions: class numbers, or scores, in the order of the test set.

    Raises:
        ValueError: if one is NaN; nothing is written.

    Example:
        >>> import tempfile
        >>> from axformer_lightning.tasks import TASKS
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_predictions(Path(folder, "RTE.tsv"), TASKS["rte"], [1, 0])
        ...     Path(folder, "RTE.tsv").read_text()
        'index\tprediction\n0\tnot_entailment\n1\tentailment\n'
    """
    if lost := sum(map(math.isnan, predictions)):
        raise ValueError(
            f"Expected a prediction for each sample, got none for {lost} of {len(predictions)}: what the model says is"
            " no number, so it has diverged. Train it again with a lower `model.learning_rate`."
        )
    lines = [f"{i}\t{_written(value, task)}\n" for i, value in enumerate(predictions)]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, "".join(["index\tprediction\n", *lines]))


def _written(value: float, task: Task) -> str:
    """Write one prediction.

    Example:
        >>> from axformer_lightning.tasks import TASKS
        >>> _written(5.2, TASKS["stsb"]), _written(1, TASKS["cola"]), _written(2, TASKS["mnli"])
        ('5.000', '1', 'contradiction')
    """
    if task.kind == "regression":
        least, largest = task.bounds
        return f"{min(max(value, least), largest):.3f}"
    return task.labels[int(value)] if task.named_labels else str(int(value))
