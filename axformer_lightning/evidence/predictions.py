"""What a model said of every sample of a dev set, kept beside its weights."""

import os
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axformer_lightning.basics import replacing
from axformer_lightning.evidence.metrics import METRICS

FILE = "dev_predictions"


@dataclass(frozen=True)
class Predictions:
    """What a model said of the samples of a dev set, in order.

    Args:
        arrays: by name, all with the samples in the first dimension: `labels` of shape ``(N,)`` with `logits` of shape
            ``(N, classes)`` or ``(N,)``; or values of single samples whose mean is the metric of that name, shape
            ``(N,)``.

    Raises:
        ValueError: if the arrays differ in length, there are none, or one is of another shape or holds no numbers.

    Example:
        >>> said = Predictions({"labels": np.array([0, 1]), "logits": np.array([[2.0, 1.0], [1.0, 0.0]])})
        >>> len(said), float(said.value("accuracy"))
        (2, 0.5)
    """

    arrays: Mapping[str, NDArray[Any]]

    def __post_init__(self) -> None:
        shapes = {name: array.shape for name, array in self.arrays.items()}
        if not shapes or len({shape[:1] for shape in shapes.values()}) > 1:
            raise ValueError(f"Expected arrays of one length, got the shapes {shapes}. Write the predictions again.")
        for name, array in self.arrays.items():
            if array.dtype.kind not in "biuf" or array.ndim not in ((1, 2) if name == "logits" else (1,)):
                raise ValueError(
                    f"Expected a number for each sample, and of `logits` perhaps one for each class, got {name!r} of"
                    f" shape {array.shape} and type {array.dtype}. Write the predictions again."
                )

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    @property
    def labels(self) -> NDArray[Any] | None:
        """What is right, or None where only values of samples are known."""
        return self.arrays.get("labels")

    @property
    def preds(self) -> NDArray[Any]:
        """The class number of each sample, or its score."""
        logits = self.arrays["logits"]
        return logits.argmax(-1) if logits.ndim == 2 and logits.shape[1] > 1 else logits.reshape(-1)

    def knows(self, metric: str) -> bool:
        """Tell whether a metric can be computed from what is kept."""
        return metric in self.arrays or (metric in METRICS and {"labels", "logits"} <= {*self.arrays})

    def value(self, metric: str, rows: NDArray[Any] | None = None) -> NDArray[Any]:
        """Return a metric of all samples, or of resamples.

        Args:
            metric: its official name.
            rows: indices of samples, shape ``(..., N)``; the values have the shape before the last dimension.

        Raises:
            ValueError: if the metric cannot be computed from what is kept.
        """
        if not self.knows(metric):
            raise ValueError(
                f"Expected a metric of {sorted({*METRICS, *self.arrays})} that the predictions give, got {metric!r}."
                " Compare by another one."
            )
        if metric in self.arrays:
            values = self.arrays[metric]
            return np.asarray((values if rows is None else values[rows]).mean(-1))
        labels, preds = self.arrays["labels"], self.preds
        return METRICS[metric](labels, preds) if rows is None else METRICS[metric](labels[rows], preds[rows])

    def save(self, folder: str | os.PathLike[str], suffix: str = "") -> None:
        """Write `dev_predictions.npz` into a folder, wholly or not at all.

        Args:
            folder: of the model.
            suffix: of the metrics' names, where there are several dev sets; goes into the file's name.
        """
        with replacing(_path(folder, suffix)) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **self.arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, folder: str | os.PathLike[str], suffix: str = "") -> "Predictions":
        """Read `dev_predictions.npz` of a folder.

        Args:
            folder: of the model.
            suffix: as of :meth:`save`.

        Raises:
            FileNotFoundError: if there is none.
            ValueError: if it cannot be read.
        """
        path = _path(folder, suffix)
        try:
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                return cls({name: file[name] for name in file.files})
        except FileNotFoundError:
            raise
        except (ValueError, zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
            raise ValueError(
                f"Cannot read the predictions {os.fspath(path)!r}: {str(error).rstrip('.')}. Delete the file, or repeat"
                " the run."
            ) from error


def _path(folder: str | os.PathLike[str], suffix: str) -> Path:
    return Path(folder, f"{FILE}{suffix}.npz")
