"""What became of parameters that a cut has replaced."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from axformer_lightning.surgery.positions import Positions


@dataclass(frozen=True, eq=False)
class Edit:
    """What became of one parameter.

    Args:
        old: the parameter before the cut.
        new: the parameter in its place, or None where it was removed.
        kept: the entries of ``old`` that ``new`` holds, by dimension.
        name: of the parameter, in the transformer.

    Example:
        >>> edit = Edit(nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2)), {0: [0, 2]})
        >>> edit.of(torch.tensor([1.0, 2.0, 3.0]))
        tensor([1., 3.])
    """

    old: nn.Parameter
    new: nn.Parameter | None
    kept: Positions
    name: str = ""

    def of(self, value: Tensor) -> Tensor | None:
        """Return what is left of a tensor that goes along with the parameter, None where the parameter was removed."""
        return None if self.new is None else keep(value, self.kept)


def keep(value: Tensor, kept: Positions) -> Tensor:
    """Return a copy of ``value`` with only the kept entries of each dimension.

    Example:
        >>> keep(torch.tensor([[1, 2], [3, 4]]), {1: [1]})
        tensor([[2],
                [4]])
    """
    for dim, entries in kept.items():
        value = value.index_select(dim, torch.tensor(entries, dtype=torch.long, device=value.device))
    return value.clone() if not kept else value


def joined(edits: Iterable[Edit]) -> tuple[Edit, ...]:
    """Return what became of each parameter by several cuts, one after another.

    Args:
        edits: of the first cut, then of the next.

    Example:
        >>> import torch
        >>> first, second, third = (nn.Parameter(torch.ones(size)) for size in (4, 3, 1))
        >>> (edit,) = joined([Edit(first, second, {0: [0, 2, 3]}), Edit(second, third, {0: [1]})])
        >>> edit.old is first, edit.new is third, edit.kept
        (True, True, {0: [2]})
    """
    found: dict[nn.Parameter, Edit] = {}  # by what stands there now; what was removed by what it was
    for edit in edits:
        earlier = found.pop(edit.old, None)
        whole = edit if earlier is None else replace(edit, old=earlier.old, kept=_within(earlier.kept, edit.kept))
        found[edit.old if edit.new is None else edit.new] = whole
    return tuple(found.values())


def _within(first: Positions, then: Positions) -> Positions:
    return {**first, **{dim: [first[dim][i] for i in kept] if dim in first else kept for dim, kept in then.items()}}
