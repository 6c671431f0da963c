"""Running only the parts of a model that a candidate can change.

A candidate in layer i cannot change the outputs of the layers below, nor the input of its own block: both come from the
cache if they are there (:mod:`~axformer_lightning.replay.records`). Every module stays in place, so masks, position
biases, the head and a user's own code run as usual (:mod:`~axformer_lightning.replay.running`).

Cached and recomputed values are bit-identical: the same kernels run on the same tensors, in the same order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import nn
from transformers import PreTrainedModel

from axformer_lightning.anatomy import Anatomy, LayerPlan, SearchSpace, layer_modules
from axformer_lightning.first_token import top_layer
from axformer_lightning.replay.calls import NOTHING_READ, Applied, Call, Reading
from axformer_lightning.replay.reads import Heard, Reads
from axformer_lightning.replay.records import EMBEDDINGS, Records
from axformer_lightning.replay.work import Work


@dataclass(frozen=True)
class Replay:
    """One round's way to run a model with candidates applied.

    Args:
        transformer: the model.
        anatomy: its parts.
        before: what is left of each layer before the round.
        space: what the indices of candidates stand for.
        records: the cache.
        work: counts the work that is run.
        shares_blocks: whether what the candidates of one block have in common is computed once.
        reading: what the first pass has found out, so that work can be skipped; by default nothing.
    """

    transformer: PreTrainedModel
    anatomy: Anatomy
    before: tuple[LayerPlan, ...]
    space: SearchSpace
    records: Records
    work: Work
    shares_blocks: bool = True
    reading: Reading = NOTHING_READ

    @cached_property
    def modules(self) -> Sequence[nn.Module]:
        """The layers."""
        return layer_modules(self.transformer)

    @cached_property
    def embeddings(self) -> nn.Module | None:
        """The module that makes the first layer's input, if there is one of the family's name."""
        return dict(self.transformer.base_model.named_modules()).get(self.anatomy.family.embeddings)

    @cached_property
    def top(self) -> int | None:
        """The highest layer that attends when the round begins.

        It stays the same for a round. If it moved down when that attention is removed, scores before and after would
        come from different kernels, and rounding would decide ties.
        """
        return top_layer(self.before, self.anatomy.num_heads)

    @property
    def leaves_out(self) -> bool:
        """Whether anything may be skipped."""
        return self.reading.reads > Reads.EVERYTHING

    def keep(self, batch: int, heard: Heard) -> None:
        """Keep the outputs of the layers for ``batch`` with no candidate applied."""
        for i in range(self.anatomy.num_layers if self.top is None else self.top):
            for call, output in enumerate(heard.outputs[i]):
                self.records.keep_layer(batch, i, (), call, output)

    def call_of(self, batch: int, applied: Applied) -> Call:
        """Return what a step of a batch starts from: all cached values that still hold."""
        if not self.leaves_out:
            return Call(batch, self.anatomy.num_layers)
        num_calls = self.reading.num_calls[batch]
        kept = (
            (i + 1, below)
            for i in reversed(range(applied.layer))
            if (below := self.records.layer(batch, i, applied.keys[i], num_calls)) is not None
        )
        start, below = next(kept, (0, []))
        found = {
            kind: self.records.block(batch, applied.layer, kind, applied.block_key(kind), num_calls)
            for kind in applied.steady
        }
        return Call(
            batch,
            self.anatomy.num_layers,
            start,
            below,
            self.records.layer(batch, EMBEDDINGS, applied.embedded_key, num_calls),
            {kind: known for kind, known in found.items() if known is not None},
        )
