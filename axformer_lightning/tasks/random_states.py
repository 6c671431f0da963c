"""States of random generators, to resume a killed process exactly; Lightning's checkpoints hold none.

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
    """Restore the states that :func:`random_states` returned."""
    version, keys, gauss = states["python"]
    random.setstate((version, tuple(keys), gauss))
    algorithm, keys, *rest = states["numpy"]
    np.random.set_state((algorithm, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if states["cuda"]:
        torch.cuda.set_rng_state_all(states["cuda"])


class RandomStates(L.Callback):
    """Keeps the states of the global generators in every checkpoint, and restores them when a fit resumes."""

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
        self._put_back()  # not earlier: Lightning may draw numbers between loading and training

    @override
    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._put_back()  # a fit resumed after its last epoch trains nothing

    def _put_back(self) -> None:
        if self._resumed is not None:
            set_random_states(self._resumed)
            self._resumed = None


class SeededOrder:
    """The generator of the order of training samples, for one fit at a time; it can be resumed from a checkpoint.

    Args:
        seed: seed of the order.

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
        """Return the generator for a new fit: in the state of a checkpoint if one was loaded, else seeded."""
        self.generator = torch.Generator().manual_seed(self.seed)
        if self._resumed is not None:
            self.generator.set_state(self._resumed)
            self._resumed = None
        return self.generator

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {"order": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Keep the state of a checkpoint for the next :meth:`begin`."""
        self._resumed = state["order"]
