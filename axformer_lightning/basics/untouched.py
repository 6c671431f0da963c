"""Running a module so that nothing of it is different afterwards."""

import random
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy
import torch
from torch import Tensor, nn

# Its parts and its mode. Hooks are brought back: transformers installs some in a first call, and takes note of that.
OF_TORCH = frozenset({"_parameters", "_modules", "training"})
# Whatever has a class of these among its bases is no state of a module: trainers, loggers, data, streams.
HOSTS = ("lightning", "pytorch_lightning", "torch", "datasets")
PLAIN = (str, bytes, int, float, complex, type, FunctionType, MethodType, ModuleType)
MANY = 10_000  # entries of a list or dict; of a longer one only the list itself is put back, not what is in it


@contextmanager
def untouched(module: nn.Module, *, weights: bool = False) -> Iterator[None]:
    """Run ``module``, and bring back all that it keeps: buffers, metrics, counters, lists, random states.

    Args:
        module: its attributes and those of its parts are looked through, and what they hold.
        weights: whether parameters are brought back, too; they are copied for that.

    Example:
        >>> module = nn.BatchNorm1d(2)
        >>> module.seen = []
        >>> with untouched(module):
        ...     module.seen.append(module(torch.ones(4, 2)).shape)
        >>> module.seen, module.num_batches_tracked.item()
        ([], 0)
    """
    undo = [*_random_states(), *_memory_of(module, weights)]
    try:
        yield
    finally:
        with torch.inference_mode(False), torch.no_grad():
            for restore in undo:
                restore()


def _random_states() -> Iterator[Callable[[], object]]:
    for set_state, state in (
        (torch.set_rng_state, torch.get_rng_state()),
        (random.setstate, random.getstate()),
        (numpy.random.set_state, numpy.random.get_state()),
    ):
        yield _later(set_state, state)
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        yield _later(torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all())


def _memory_of(root: nn.Module, weights: bool) -> Iterator[Callable[[], object]]:
    """Yield what brings back each object that can be reached from a module."""
    seen: dict[int, object] = {}  # the objects themselves, so that no number is used again
    waiting: list[Any] = [root]
    while waiting:
        value = waiting.pop()
        if value is None or isinstance(value, PLAIN) or id(value) in seen:
            continue
        seen[id(value)] = value
        if isinstance(value, Tensor):
            if (weights or not isinstance(value, nn.Parameter)) and not value.is_meta:
                yield _later(_put_back, value, value.detach().clone())
        elif isinstance(value, tuple | list | dict | set | deque):
            yield from _contents(value)
            inside = value.values() if isinstance(value, dict) else value
            waiting.extend(inside if len(value) <= MANY else ())
        elif (restore := random_state(value)) is not None:
            yield restore
        elif isinstance(value, numpy.ndarray):
            yield _later(numpy.copyto, value, value.copy())
        elif isinstance(value, nn.Module) or has_attributes(value):
            known = OF_TORCH if isinstance(value, nn.Module) else frozenset()
            attributes = {name: held for name, held in vars(value).items() if name not in known}
            yield _later(_put_back_attributes, value, attributes, known)
            waiting.extend(attributes.values())
            if isinstance(value, nn.Module):
                waiting.extend([*value._modules.values(), *value._parameters.values()])


def _contents(value: Any) -> Iterator[Callable[[], object]]:
    def put_back(kept: Any) -> None:
        if len(value) != len(kept) or any(
            one is not other for one, other in zip(_flat(value), _flat(kept), strict=True)
        ):
            value.clear()
            (value.extend if isinstance(value, list | deque) else value.update)(kept)

    if not isinstance(value, tuple):
        yield _later(put_back, dict(value) if isinstance(value, dict) else list(value))


def _flat(value: Any) -> Any:
    return [part for item in value.items() for part in item] if isinstance(value, dict) else value


def random_state(value: Any) -> Callable[[], object] | None:
    """Return what brings a source of random numbers back to where it is now, None for anything else."""
    if isinstance(value, torch.Generator):
        return _later(value.set_state, value.get_state())
    if isinstance(value, random.Random):
        return _later(value.setstate, value.getstate())
    if isinstance(value, numpy.random.RandomState):
        return _later(value.set_state, value.get_state())
    if isinstance(value, numpy.random.Generator):
        return _later(setattr, value.bit_generator, "state", value.bit_generator.state)
    return None


def has_attributes(value: object) -> bool:
    """Tell whether to look into an object, as it may be part of what a module keeps."""
    packages = {parent.__module__.partition(".")[0] for parent in type(value).__mro__}
    return isinstance(getattr(value, "__dict__", None), dict) and packages.isdisjoint(HOSTS)


def _put_back(tensor: Tensor, kept: Tensor) -> None:
    if tensor.shape != kept.shape:
        tensor.data = kept
    elif not torch.equal(tensor, kept):
        tensor.copy_(kept)


def _put_back_attributes(holder: Any, kept: dict[str, Any], known: frozenset[str]) -> None:
    now = vars(holder)
    for name in [name for name in now if name not in kept and name not in known]:
        del now[name]
    now.update(kept)


def _later(function: Callable[..., object], *args: Any) -> Callable[[], object]:
    return lambda: function(*args)
