"""Moments and orders on disk, under names that depend on all that they are made from."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from axformer_lightning.anatomy import Block, anatomy_of, layers_left
from axformer_lightning.basics import digest_of, replacing
from axformer_lightning.repair.least_squares import DAMPING
from axformer_lightning.repair.measuring import measure_moments, out_projections
from axformer_lightning.repair.moments import Moments
from axformer_lightning.repair.order import RemovalOrder, removal_order
from axformer_lightning.replay import ALONE, Ranks
from axformer_lightning.scoring.names import entries_of


def cached_moments(
    directory: str | os.PathLike[str],
    module: nn.Module,
    transformer: PreTrainedModel,
    batches: Sequence[Any],
    *,
    ranks: Ranks = ALONE,
) -> Moments:
    """Return what :func:`~axformer_lightning.repair.measure_moments` returns, from disk where it was measured before.

    A file goes by the SHA-256 of the module's weights and buffers, the config, what is left of each layer and the
    batches, so it cannot be of another model or data. Of several processes each has a file of its own; all are read,
    or none.

    Args:
        directory: where files are kept; made if absent. Files are never removed.
        module: as of `measure_moments`.
        transformer: as of `measure_moments`.
        batches: as of `measure_moments`; of tensors, numbers and strings, however nested.
        ranks: as of `measure_moments`.

    Raises:
        ValueError: as `measure_moments`; if a file cannot be read, or a batch holds something without known contents.
    """
    path = Path(directory) / f"moments-{_key(module, transformer, batches, ranks)}.safetensors"
    everyone_has_it = all(there for (there,) in ranks.gather([float(path.is_file())]))
    if everyone_has_it:
        return Moments.load(path)
    moments = measure_moments(module, transformer, batches, ranks=ranks)
    path.parent.mkdir(parents=True, exist_ok=True)
    moments.save(path)
    return moments


def block_order(
    model: PreTrainedModel,
    moments: Moments,
    layer: int,
    kind: str,
    *,
    damping: float = DAMPING,
    directory: str | os.PathLike[str] | None = None,
) -> RemovalOrder:
    """Return the order in which the heads or neurons of one block go, as units of the original model.

    Args:
        model: whose block; what is cut already is not in the order.
        moments: of ``model`` as it is.
        layer: where the block is.
        kind: which half of the layer it is.
        damping: see :func:`~axformer_lightning.repair.removal_order`.
        directory: where orders are kept, if at all, under the SHA-256 of weight and moments; made if absent.

    Raises:
        ValueError: if the block is removed, or its moments are missing or of another number of inputs.

    Example:
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> sizes = {"hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 6}
        >>> model = BertForSequenceClassification(BertConfig(**sizes)).eval()
        >>> batch = {"input_ids": torch.tensor([[3, 5, 7, 1], [2, 4, 6, 8]]), "labels": torch.tensor([0, 1])}
        >>> order = block_order(model, measure_moments(model, model, [batch]), 0, "attention")
        >>> sorted(order.units)
        [0, 1]
    """
    block: Block = next(block for block in anatomy_of(model).blocks if block.kind == kind)
    linear = out_projections(model, [(layer, block.kind)])[layer, block.kind]
    own = moments.of(layer, kind)
    had = block.left(layers_left(model)[layer]) or []

    def find() -> RemovalOrder:
        has_bias = linear.bias is not None
        found = removal_order(linear.weight, own, width=block.width, has_bias=has_bias, damping=damping)
        return RemovalOrder(tuple(had[position] for position in found.units), found.scores)

    if directory is None:
        return find()
    told = repr((had, block.width, linear.bias is not None, damping)).encode()
    key = digest_of([told, _bytes(linear.weight), _bytes(own.sums_MM)]).hex()
    return _kept(Path(directory) / f"order-{key}.safetensors", find)


def _kept(path: Path, find: Callable[[], RemovalOrder]) -> RemovalOrder:
    if path.is_file():
        with safe_open(os.fspath(path), "pt") as file:
            values: list[list[Any]] = [file.get_tensor(name).tolist() for name in ("units", "scores")]
        return RemovalOrder(tuple(values[0]), tuple(values[1]))
    found = find()
    tensors = {"units": torch.tensor(found.units, dtype=torch.int64)}
    tensors["scores"] = torch.tensor(found.scores, dtype=torch.float64)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        save_file(tensors, temporary)
    return found


def _key(module: nn.Module, transformer: PreTrainedModel, batches: Sequence[Any], ranks: Ranks) -> str:
    def parts() -> Iterator[bytes]:
        yield repr((layers_left(transformer), ranks.rank, ranks.size)).encode()
        yield transformer.config.to_json_string(use_diff=False).encode()
        for name, value in module.state_dict().items():
            yield name.encode()
            yield _bytes(value)
        yield b"batches"
        for batch in batches:
            yield from _contents(batch)

    return digest_of(parts()).hex()


def _contents(value: Any) -> Iterator[bytes]:
    """Yield the bytes of everything in a batch, with what tells its structure."""
    entries = entries_of(value)
    if isinstance(value, Tensor):
        yield repr((value.dtype, tuple(value.shape))).encode()
        yield _bytes(value)
    elif entries is not None or isinstance(value, list | tuple):
        items = dict(enumerate(value)).items() if entries is None else entries.items()
        yield repr([name for name, _ in items]).encode()
        for _, item in items:
            yield from _contents(item)
    elif value is None or isinstance(value, str | bytes | int | float):
        yield repr(value).encode()
    else:
        raise ValueError(
            f"Expected batches of tensors, numbers and strings, whose contents name a file, got {type(value).__name__}."
            " Use `measure_moments`, which keeps nothing on disk."
        )


def _bytes(value: Tensor) -> bytes:
    return value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
