"""Second moments: all that a closed-form repair has to know of what a block's out-projection reads.

Shape suffixes: ``N`` tokens, ``C`` inputs of an out-projection, ``M`` those and a constant one, ``O`` its outputs.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from axformer_lightning.basics import replacing

BlockName = tuple[int, Literal["attention", "feed_forward"]]  # the layer, and which half of it


@dataclass(frozen=True, eq=False)
class BlockMoments:
    """Sums over tokens of products of the inputs of one out-projection, with a constant one as the last input.

    Args:
        sums_MM: ``[x, 1]^T [x, 1]`` summed over tokens, float64. Its last entry is the number of tokens.

    Example:
        >>> moments = BlockMoments.of(torch.tensor([[1.0, 0.0], [3.0, 2.0]]))
        >>> moments.tokens, moments.mean.tolist(), moments.covariance.tolist()
        (2, [2.0, 1.0], [[1.0, 1.0], [1.0, 1.0]])
    """

    sums_MM: Tensor

    @classmethod
    def of(cls, x_NC: Tensor) -> "BlockMoments":
        """Return the moments of given inputs, a row per token."""
        x_NM = torch.cat([x_NC, x_NC.new_ones(len(x_NC), 1)], dim=1).double()
        return cls(x_NM.T @ x_NM)

    @property
    def tokens(self) -> int:
        """Over how many tokens the sums go."""
        return int(self.sums_MM[-1, -1])

    @property
    def columns(self) -> int:
        """How many inputs the out-projection has."""
        return len(self.sums_MM) - 1

    @property
    def mean(self) -> Tensor:
        """The mean of each input, shape ``(C,)``."""
        return self.sums_MM[-1, :-1] / self.sums_MM[-1, -1]

    @property
    def second(self) -> Tensor:
        """The mean of every product of two inputs, shape ``(C, C)``."""
        return self.sums_MM[:-1, :-1] / self.sums_MM[-1, -1]

    @property
    def covariance(self) -> Tensor:
        """The mean of every product of two inputs, each less its mean, shape ``(C, C)``."""
        return torch.addr(self.second, self.mean, self.mean, alpha=-1)

    def mean_output(self, weight_OC: Tensor, bias_O: Tensor | None) -> Tensor:
        """Return the mean of what the out-projection gives, shape ``(O,)``, float64."""
        mean_O = weight_OC.detach().to(self.sums_MM) @ self.mean
        return mean_O if bias_O is None else mean_O + bias_O.detach().to(mean_O)

    def __add__(self, other: "BlockMoments") -> "BlockMoments":
        """Return the moments over the tokens of both."""
        return BlockMoments(self.sums_MM + other.sums_MM)


@dataclass(frozen=True, eq=False)
class Moments:
    """The moments of blocks of one model, as it was when they were measured.

    They take ``8 (C + 1)^2`` bytes per block: 19 MB for 1,536 neurons, 76 MB for 3,072.

    Args:
        blocks: the moments by layer and half of the layer; blocks that were removed have none.
        applications: how often each layer ran in one call of the model.
    """

    blocks: Mapping[BlockName, BlockMoments]
    applications: tuple[int, ...]

    def of(self, layer: int, kind: str) -> BlockMoments:
        """Return the moments of one block.

        Raises:
            ValueError: if they were not measured.
        """
        for (i, half), moments in self.blocks.items():
            if (i, half) == (layer, kind):
                return moments
        raise ValueError(
            f"Expected moments of the {kind} block of layer {layer}, got those of {sorted(self.blocks)}. Measure them"
            " with `measure_moments`."
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to a safetensors file, wholly or not at all."""
        tensors = {f"{i}.{kind}": moments.sums_MM.cpu() for (i, kind), moments in self.blocks.items()}
        applications = torch.tensor(self.applications, dtype=torch.int64)
        with replacing(path) as temporary:
            save_file({**tensors, "applications": applications}, temporary)

    @classmethod
    def load(cls, path: str | os.PathLike[str], blocks: Iterable[BlockName] | None = None) -> "Moments":
        """Read what :meth:`save` wrote, to the bit.

        Args:
            path: the file.
            blocks: those to read, so that no others take memory; by default all.

        Raises:
            ValueError: if the file is none of these, or lacks a block that is asked for.
        """
        try:
            with safe_open(os.fspath(path), "pt") as file:
                names = {_name_of(key): key for key in file.keys() if key != "applications"}  # noqa: SIM118
                wanted = names if blocks is None else blocks
                found = {name: BlockMoments(file.get_tensor(names[name])) for name in wanted}
                return cls(found, tuple(file.get_tensor("applications").tolist()))
        except FileNotFoundError:
            raise
        except Exception as error:  # safetensors raises more than its own error
            raise ValueError(
                f"Cannot read the moments {os.fspath(path)!r}: {type(error).__name__}: {error}. Delete the file to"
                " measure them anew."
            ) from error


def _name_of(key: str) -> BlockName:
    layer, _, kind = key.partition(".")
    return int(layer), kind  # type: ignore[return-value]
