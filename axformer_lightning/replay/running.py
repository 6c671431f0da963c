"""The hooks that run a model with candidates applied, and read from the cache what they cannot change."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, TypeVar

from torch import nn

from axformer_lightning.anatomy import KINDS, Block, Candidate, LayerPlan
from axformer_lightning.basics import first_tensor, replaced
from axformer_lightning.costs import macs_per_token
from axformer_lightning.first_token import can_ask_once, reading_first_token
from axformer_lightning.gates import stand_ins
from axformer_lightning.hard_attention import attending
from axformer_lightning.int8 import rounding
from axformer_lightning.replay.block_runs import BlockRun, Features, Known, Undo, features_of
from axformer_lightning.replay.calls import Applied, Call
from axformer_lightning.replay.reads import Reads
from axformer_lightning.replay.records import EMBEDDINGS
from axformer_lightning.replay.replay import Replay
from axformer_lightning.replay.work import Computed

R = TypeVar("R")


class AppliedModel:
    """A model while candidates are applied to it.

    Args:
        replay: runs it.
        applied: the candidates.
    """

    def __init__(self, replay: Replay, applied: Applied) -> None:
        self.replay = replay
        self.applied = applied
        self.call = Call(0, replay.anatomy.num_layers)
        skips = replay.reading.reads == Reads.FIRST_TOKEN
        asks_once = can_ask_once(replay.modules[replay.top or 0], replay.anatomy.family)
        top = (replay.top or 0) if skips else None
        self.runs = Computed.of(replay.anatomy, replay.before, applied.layers, top, asks_once)

    def step(self, batch: int, score: Callable[[], R]) -> R:
        """Return what ``score``, which calls the model, computes from a batch.

        Args:
            batch: index of the batch.
            score: runs the step.
        """
        self.call = self.replay.call_of(batch, self.applied)
        return score()

    def install(self) -> Iterator[Undo]:
        """Make the model run this way; yield what undoes each step."""
        embeddings = self.replay.embeddings
        if embeddings is not None:
            yield replaced(embeddings, partial(self._embed, embeddings.forward))
        for i, layer in enumerate(self.applied.layers):
            yield from self._install(i, layer)

    def _install(self, i: int, layer: LayerPlan) -> Iterator[Undo]:
        module = self.replay.modules[i]
        if i < self.applied.layer:
            yield replaced(module, partial(self._layer_below, i, module.forward))
        yield module.register_forward_pre_hook(partial(self._enter, i), with_kwargs=True).remove
        for block in self.replay.anatomy.blocks:
            units = block.left(self.applied.before[i])
            if units is None:
                continue
            if block.left(layer) is not None:
                yield from self._block_run(i, block, units).install()
                continue
            for part, stub in stand_ins(block).items():
                yield replaced(module.get_submodule(part), stub.forward)

    def _block_run(self, i: int, block: Block, units: Sequence[int]) -> BlockRun:
        def features(candidates: Sequence[Candidate]) -> list[Features]:
            own = [c for c in candidates if c.layer == i and KINDS[c.kind].block == block.kind]
            closed = (c.units(self.replay.space) for c in own)
            return [features_of(block, units, gone) for gone in closed if gone is not None]

        applied = self.applied
        steady = i == applied.layer and block.kind in applied.steady
        return BlockRun(
            block=block,
            layer=self.replay.modules[i],
            closed=features(applied.accepted),
            tried=features([applied.tried] if applied.tried else []),
            known=partial(self._known_of, block.kind),
            keep=partial(self._keep_block, block.kind) if steady else None,
            count=self._count,
        )

    def _count(self, macs: float) -> None:
        self.replay.work.add(macs, self.call.per_token)

    def _embed(self, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        call = self.call
        number, call.embed_calls = call.embed_calls, call.embed_calls + 1
        if call.embedded is not None:
            return call.embedded[number]
        output = forward(*args, **kwargs)
        if self.replay.leaves_out:
            self.replay.records.keep_layer(call.batch, EMBEDDINGS, self.applied.embedded_key, number, output)
        return output

    def _enter(self, i: int, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        call = self.call
        call.layer_calls[i] += 1
        x_BTC = first_tensor(*args, **kwargs)
        *rows, tokens, hidden = x_BTC.shape
        samples = math.prod(rows)
        if i == 0:
            call.per_token = macs_per_token(self.replay.anatomy, tokens, samples)
        if i >= call.start:
            known = call.known if i == self.applied.layer else ()
            for block in self.runs.units[i]:
                if block.kind not in known:
                    self._count(self.runs.macs(i, block, samples, tokens, hidden))

    def _layer_below(self, i: int, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        call = self.call
        number = call.layer_calls[i] - 1
        if i < call.start:
            return call.below[number]
        output = forward(*args, **kwargs)
        if self.replay.leaves_out:
            self.replay.records.keep_layer(call.batch, i, self.applied.keys[i], number, output)
        return output

    def _known_of(self, kind: str) -> Known | None:
        known = self.call.known.get(kind)
        return None if known is None else known[self.call.layer_calls[self.applied.layer] - 1]

    def _keep_block(self, kind: str, known: Known) -> None:
        call, layer = self.call, self.applied.layer
        number = call.layer_calls[layer] - 1
        self.replay.records.keep_block(call.batch, layer, kind, self.applied.block_key(kind), number, known)


@contextmanager
def running(replay: Replay, candidates: tuple[Candidate, ...]) -> Iterator[AppliedModel]:
    """Run a model as if ``candidates`` had been applied; each step is a call of :meth:`AppliedModel.step`.

    Args:
        replay: runs the model.
        candidates: those that were accepted, in order, and the one that is tried.
    """
    shares = replay.shares_blocks and replay.leaves_out
    with running_as(replay, Applied.of(candidates, replay.before, replay.space, shares=shares)) as model:
        yield model


@contextmanager
def running_as(replay: Replay, applied: Applied) -> Iterator[AppliedModel]:
    """Let a model run as ``applied`` says, as :func:`running` does."""
    model = AppliedModel(replay, applied)
    with ExitStack() as undo:
        undo.enter_context(attending(replay.transformer, applied.layers, replay.before))
        undo.enter_context(rounding(replay.transformer, applied.layers, replay.before))
        if replay.reading.reads == Reads.FIRST_TOKEN:
            undo.enter_context(reading_first_token(replay.transformer, replay.before))
        for step in model.install():
            undo.callback(step)
        yield model
