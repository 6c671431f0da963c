"""Weights in int8 as they are stored: whole numbers, and a step for each row."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from axformer_lightning.int8.rounding import to_int8

WEIGHT = ".weight"  # after the name of a module
STEP = "_step"  # after the name of a weight


def pack(weights: Mapping[str, Tensor], names: Iterable[str]) -> dict[str, Tensor]:
    """Return weights with those of some modules as int8, each with its steps beside it.

    Args:
        weights: by name.
        names: of the modules whose `weight` is to be stored in int8.

    Example:
        >>> packed = pack({"a.weight": torch.tensor([[1.27, -0.3]]), "a.bias": torch.zeros(1)}, ["a"])
        >>> packed["a.weight"], sorted(packed)
        (tensor([[127, -30]], dtype=torch.int8), ['a.bias', 'a.weight', 'a.weight_step'])
    """
    packed = dict(weights)
    for name in names:
        key = name + WEIGHT
        packed[key], packed[key + STEP] = to_int8(weights[key])
    return packed


def unpack(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what :func:`pack` stored as floats, on their grids; a parameter of another name may end like the steps.

    Raises:
        ValueError: if an int8 tensor has no steps, steps have no tensor, or their shapes do not fit.

    Example:
        >>> unpack(pack({"a.weight": torch.tensor([[1.27, -0.304]])}, ["a"]))
        {'a.weight': tensor([[ 1.2700, -0.3000]])}
    """
    plain = {name: value for name, value in weights.items() if not name.endswith(WEIGHT + STEP)}
    steps = {name.removesuffix(STEP): value for name, value in weights.items() if name.endswith(WEIGHT + STEP)}
    whole = {name for name, value in plain.items() if value.dtype == torch.int8}
    if alone := sorted(whole ^ steps.keys()):
        raise ValueError(f"Expected a tensor of int8 and its steps for each of {alone[:3]}, got one of the two.")
    for name, step_O1 in steps.items():
        if plain[name].dim() != 2 or step_O1.shape != (plain[name].shape[0], 1):
            raise ValueError(
                f"Expected a step for each row of {name!r}, of shape {tuple(plain[name].shape)}, got"
                f" {tuple(step_O1.shape)}."
            )
        plain[name] = plain[name].float() * step_O1.float()
    return plain
