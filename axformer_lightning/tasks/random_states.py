"""Random numbers that go on where a killed process left them; Lightning's checkpoints hold none.

States are plain types and tensors, so that checkpoints load with `weights_only=True`.
"""

import random
from typing import Any

import lightning as L
import numpy as np
import torch
from typing_extensions import override


def random_states() -> dict[str, Any]:
    """Return the states of the global generators of Python, NumPy, PyTorch and every CUDA device.

    Example:
        >>> before = random_states()
        >>> number = random.random(), torch.rand(()).item()
        >>> set_random_states(before)
        >>> number == (random.random(), torch.rand(()).item())
        True
    """
    numpy_state: Any = np.random.get_state()
    algorithm, keys, *rest = numpy_state
    return {
        "python": random.getstate(),
        "numpy": [algorithm, torch.tensor(keys.astype(np.int64)), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_states(states: dict[str, Any]) -> None:
    """Put back what :func:`random_states` returned."""
    version, keys, gauss = states["python"]
    random.setstate((version, tuple(keys), gauss))
    algorithm, keys, *rest = states["numpy"]
    np.random.set_state((algorithm, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if states["cuda"]:
        torch.cuda.set_rng_state_all(states["cuda"])


class RandomStates(L.Callback):
    """Keeps the global generators' states in every checkpoint, and puts them back where a fit resumes."""

    def __init__(self) -> None:
        self._resumed: dict[str, Any] | None = None

    @override
    def state_dict(self) -> dict[str, Any]:
        return random_states()

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._resumed = state_dict

    @override
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._put_back()  # not earlier: what Lightning does between loading and training may draw

    @override
    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._put_back()  # after the last epoch there is nothing to train any more

    def _put_back(self) -> None:
        if self._resumed is not None:
            set_random_states(self._resumed)
            self._resumed = None


class SeededOrder:
    """The generator of the order in which samples are trained on; of one fit, from its beginning or a checkpoint.

    Args:
        seed: of the order.

    Example:
        >>> order = SeededOrder(0)
        >>> first, second = torch.randperm(4, generator=order.begin()), torch.randperm(4, generator=order.generator)
        >>> torch.equal(first, torch.randperm(4, generator=order.begin()))
        True
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.generator = torch.Generator()
        self._resumed: torch.Tensor | None = None

    def begin(self) -> torch.Generator:
        """Return the generator as a fit begins with it; as a checkpoint holds it, if one was loaded for this fit."""
        self.generator = torch.Generator().manual_seed(self.seed)
        if self._resumed is not None:
            self.generator.set_state(self._resumed)
            self._resumed = None
        return self.generator

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {"order": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the state of a checkpoint for the next :meth:`begin`."""
        self._resumed = state["order"]
