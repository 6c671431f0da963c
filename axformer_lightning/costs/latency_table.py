"""How long a plan takes on one machine, from the measured times of its blocks; nothing is run."""

import json
import os
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from reprlib import repr as short

from transformers import PreTrainedModel

from axformer_lightning.anatomy import LayerPlan
from axformer_lightning.basics import write_atomically
from axformer_lightning.basics.reading import names_of, read_count, read_fields, read_json, read_list, read_number
from axformer_lightning.costs.conditions import Conditions

FORMAT, VERSION = "axformer-latency-table", 1
Rungs = tuple[tuple[int, float], ...]  # units of a block, ascending from 0, and its milliseconds


@dataclass(frozen=True)
class LatencyTable:
    """Milliseconds of every block by how many units it has left, and of all that no plan changes.

    A model's latency is well predicted by the sum over its blocks. Measured by
    :func:`axformer_lightning.timing.measure_latency`.

    Args:
        conditions: what was measured, and on what.
        rest_ms: of the model with all blocks removed: embeddings, norms, head.
        blocks: the measured milliseconds of one block of a layer, by kind: ``"attention"``, ``"feed_forward"``, and
            ``"hard_attention"`` if that was measured.
        hard_attention_k: how many keys a query kept where hard attention was measured.

    Raises:
        ValueError: if a kind's rungs do not go from none to all of its units, or their times fall, or one is below 0.

    Example:
        >>> at = Conditions("a CPU", "2.13", 1, "torch.float32", "sdpa", "bert", 2, 4, 8, 64, batch_size=32, tokens=128)
        >>> blocks = {"attention": ((0, 0.5), (4, 2.5)), "feed_forward": ((0, 0.0), (32, 2.0), (64, 3.0))}
        >>> table = LatencyTable(at, 1.0, blocks)
        >>> table.block_ms("attention", 2), table.block_ms("attention", None)
        (1.5, 0.0)
        >>> table.predict_ms([LayerPlan(), LayerPlan("removed", neurons_removed=((0, 48),))])  # 1 + 2.5 + 3 + 1
        7.5
    """

    conditions: Conditions
    rest_ms: float
    blocks: Mapping[str, Rungs] = field(hash=False)
    hard_attention_k: int | None = None

    def __post_init__(self) -> None:
        units = {"attention": self.conditions.num_heads, "feed_forward": self.conditions.intermediate_size}
        if self.hard_attention_k is not None:
            units["hard_attention"] = self.conditions.num_heads
        if set(self.blocks) != set(units):
            raise ValueError(f"Expected the times of {sorted(units)}, got those of {sorted(self.blocks)}.")
        if self.rest_ms < 0:
            raise ValueError(f"Expected `rest_ms`, the time of the model without blocks, from 0, got {self.rest_ms}.")
        for kind, rungs in self.blocks.items():
            _check_rungs(kind, rungs, units[kind])

    def block_ms(self, kind: str, units: int | None) -> float:
        """Return the milliseconds of one block with so many units left, or 0 where it is removed (None).

        Between the units that were measured, times are interpolated linearly.

        Raises:
            ValueError: if the kind was not measured, or has not so many units.
        """
        if kind not in self.blocks:
            raise ValueError(
                f"Expected one of the kinds that were measured, {list(self.blocks)}, got {kind!r}."
                " Hard attention is measured by `measure_latency(..., hard_attention=...)`."
            )
        rungs = self.blocks[kind]
        if units is None:
            return 0.0
        if not 0 <= units <= rungs[-1][0]:
            raise ValueError(f"Expected 0 to {rungs[-1][0]} units of {kind}, or None for no block at all, got {units}.")
        above = bisect_left(rungs, units, key=lambda rung: rung[0])
        last, last_ms = rungs[above]
        if last == units:
            return last_ms
        first, first_ms = rungs[above - 1]
        return first_ms + (last_ms - first_ms) * (units - first) / (last - first)

    def predict_ms(self, layers: Sequence[LayerPlan]) -> float:
        """Return the milliseconds that a batch takes in the model that is cut to ``layers``.

        Raises:
            ValueError: if ``layers`` has not one entry per layer, or attends hard otherwise than was measured.
        """
        if len(layers) != self.conditions.num_layers:
            raise ValueError(
                f"Expected one LayerPlan for each of {self.conditions.num_layers} layers, got {len(layers)}."
            )
        return self.rest_ms + sum(self._layer_ms(layer) for layer in layers)

    def _layer_ms(self, layer: LayerPlan) -> float:
        kind = "hard_attention" if layer.is_hard else "attention"
        hard = layer.hard_attention
        if layer.is_hard and hard is not None and self.hard_attention_k not in (None, hard.k):
            raise ValueError(
                f"Expected hard attention of k={self.hard_attention_k}, as was measured, got k={hard.k}. Measure it:"
                " `measure_latency(..., hard_attention=...)`."
            )
        heads = len(layer.kept_heads(self.conditions.num_heads)) if layer.attention == "kept" else None
        neurons = len(layer.kept_neurons(self.conditions.intermediate_size)) if layer.feed_forward == "kept" else None
        return self.block_ms(kind, heads) + self.block_ms("feed_forward", neurons)

    def check(self, model: PreTrainedModel, *, batch_size: int, tokens: int) -> None:
        """Raise unless ``model`` would read such batches here and now as the table was measured.

        Args:
            model: the model that times are asked for, cut or not.
            batch_size: samples of a batch.
            tokens: of a sample.

        Raises:
            ValueError: naming all that differs.
        """
        differing = self.conditions.differing(Conditions.of(model, batch_size, tokens))
        if differing:
            raise ValueError(
                f"Expected what the latency table was measured with, got {differing}. Measure a table for it with"
                " `axformer_lightning.timing.measure_latency`, or go back to what this one was measured with."
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the table to ``path`` as JSON, wholly or not at all."""
        data = {"format": FORMAT, "version": VERSION, **asdict(self)}
        write_atomically(path, json.dumps(data, indent=2, allow_nan=False) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "LatencyTable":
        """Read a table from ``path``.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it does not hold a table; the file is named.
        """
        try:
            return _read_table(read_json(Path(path).read_text(encoding="utf-8")))
        except (ValueError, IsADirectoryError) as error:
            raise ValueError(f"Cannot read the latency table {os.fspath(path)!r}: {error}") from error


def _check_rungs(kind: str, rungs: Rungs, num_units: int) -> None:
    units, times = [unit for unit, _ in rungs], [ms for _, ms in rungs]
    if units != sorted(set(units)) or units[:1] + units[-1:] != [0, num_units]:
        raise ValueError(f"Expected times of {kind} with 0 to all {num_units} units, ascending, got {short(units)}.")
    if times[0] < 0 or times != sorted(times):
        raise ValueError(f"Expected times of {kind} that do not fall with more units, got {short(times)}.")


def _read_table(data: object) -> LatencyTable:
    top = read_fields(data, "the table", {"format", "version", *names_of(LatencyTable)})
    if top["format"] != FORMAT or top["version"] != VERSION:
        raise ValueError(
            f"Expected `format` {FORMAT!r} of version {VERSION}, got {short(top['format'])} of {short(top['version'])}."
        )
    blocks = read_fields(top["blocks"], "blocks", {*top["blocks"]} if isinstance(top["blocks"], Mapping) else set())
    k = top["hard_attention_k"]
    return LatencyTable(
        conditions=Conditions.from_dict(top["conditions"]),
        rest_ms=read_number(top["rest_ms"], "rest_ms"),
        blocks={
            kind: tuple(_read_rung(rung, f"blocks.{kind}") for rung in read_list(rungs, f"blocks.{kind}"))
            for kind, rungs in blocks.items()
        },
        hard_attention_k=None if k is None else read_count(k, "hard_attention_k", 1),
    )


def _read_rung(rung: object, where: str) -> tuple[int, float]:
    if len(read_list(rung, where)) != 2:
        raise ValueError(f"Expected {where} to hold pairs [units, milliseconds], got {short(rung)}.")
    units, ms = read_list(rung, where)
    return read_count(units, where), read_number(ms, where)
