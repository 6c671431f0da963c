"""Running of a model only what a candidate can change.

A candidate in layer i cannot change what the layers below put out, nor what its own block is given: both are recalled
where they were kept (:mod:`~axformer_lightning.finding.records`). Every module keeps its place, so masks, position
biases, the head and a user's own code run as ever.

Whether something is recalled or computed anew changes no bit: the same kernels run on the same tensors, in the same
order, either way.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from axformer_lightning.anatomy import Block, HardAttention, LayerPlan, anatomy_of, layer_modules
from axformer_lightning.finding.block_runs import BlockRun, Features, Known, Undo, features_of, units_of
from axformer_lightning.finding.counting import Work
from axformer_lightning.finding.reads import Heard, Reads
from axformer_lightning.finding.records import EMBEDDINGS, Records
from axformer_lightning.first_token import can_ask_once, reading_first_token, top_layer
from axformer_lightning.gates import replaced, stand_ins
from axformer_lightning.hard_attention import attending
from axformer_lightning.search import Candidate, with_candidate

BLOCK_OF_PART = {"head": "attention", "neuron_group": "feed_forward"}
STEADY = {  # the blocks of its own layer that get and compute the same with a candidate as without
    "hard_attention": (),
    "attention": (),
    "head": ("attention",),
    "feed_forward": ("attention",),
    "neuron_group": ("attention", "feed_forward"),
}


class Replay:
    """One round's way to run a model with candidates applied.

    Args:
        transformer: the model.
        layers: what is left of each layer before the round.
        groups: the neuron groups, as half-open ranges of the intermediate dimension.
        hard_attention: settings that candidates of that kind apply.
        records: what is kept, and for how long.
        shares_blocks: whether what the candidates of one block have in common is computed once.

    Attributes:
        work: what was run so far.
        reads: what steps read of the layers' outputs.
    """

    def __init__(
        self,
        transformer: PreTrainedModel,
        layers: tuple[LayerPlan, ...],
        groups: Sequence[tuple[int, int]],
        hard_attention: HardAttention | None,
        records: Records,
        shares_blocks: bool = True,
    ) -> None:
        self.transformer = transformer
        self.anatomy = anatomy = anatomy_of(transformer)
        self.before = layers
        self.groups = groups
        self.hard_attention = hard_attention
        self.records = records
        self.shares_blocks = shares_blocks
        self.work = Work(anatomy)
        self.reads = Reads.EVERYTHING
        self.modules = layer_modules(transformer)
        self.embeddings = dict(transformer.base_model.named_modules()).get(anatomy.family.embeddings)
        self.top = top_layer(layers, anatomy.num_heads)
        self._num_calls: dict[int, int] = {}  # how often each batch calls the model

    def keep(self, batch: int, heard: Heard) -> None:
        """Keep what the layers put out when ``batch`` was run with nothing applied."""
        self._num_calls[batch] = heard.model_calls
        for i in range(self.anatomy.num_layers if self.top is None else self.top):
            for call, output in enumerate(heard.outputs[i]):
                self.records.keep_layer(batch, i, (), call, output)

    @contextmanager
    def running(self, candidates: tuple[Candidate, ...]) -> Iterator[None]:
        """Let the model run as if ``candidates`` had been applied; announce each batch by `begin`.

        Args:
            candidates: those that were accepted, in order, and the one that is tried.
        """
        self._accepted, self._candidate = candidates[:-1], candidates[-1] if candidates else None
        self._layer = candidates[-1].layer if candidates else self.anatomy.num_layers
        layers = self.before
        for candidate in candidates:
            layers = with_candidate(layers, candidate, self.groups, self.hard_attention)
        self._keys = [tuple(c for c in self._accepted if c.layer <= i) for i in range(self.anatomy.num_layers)]
        skips = self.reads == Reads.FIRST_TOKEN
        top = 0 if self.top is None else self.top
        asks_once = can_ask_once(self.modules[top], self.anatomy.family)
        self.work.turn_to(self.before, layers, top if skips else None, asks_once)
        with ExitStack() as undo:
            undo.enter_context(attending(self.transformer, layers, self.before))
            undo.enter_context(reading_first_token(self.transformer, self.before) if skips else nullcontext())
            if self.embeddings is not None:
                undo.callback(replaced(self.embeddings, partial(self._embed, self.embeddings.forward)))
            for i, layer in enumerate(layers):
                for step in self._install(i, layer):
                    undo.callback(step)
            yield

    def begin(self, batch: int) -> None:
        """Say that the next step is that of ``batch``."""
        self._batch = batch
        self._calls = [0] * self.anatomy.num_layers
        self._start = 0
        self._embed_calls = 0
        self._embedded: list[Any] | None = None
        self._below: list[Any] = []  # what the layer below the first one that runs put out, by call
        self._known: dict[str, list[Known]] = {}  # of the blocks of the candidate's layer, by call
        if self.reads == Reads.EVERYTHING:
            return
        num_calls = self._num_calls[batch]
        self._embedded = self.records.layer(batch, EMBEDDINGS, (), num_calls)
        for i in reversed(range(self._layer)):
            below = self.records.layer(batch, i, self._keys[i], num_calls)
            if below is not None:
                self._start, self._below = i + 1, below
                break
        for kind in self._steady_blocks():
            known = self.records.block(batch, self._layer, kind, self._block_key(kind), num_calls)
            if known is not None:
                self._known[kind] = known

    def _steady_blocks(self) -> tuple[str, ...]:
        if self._candidate is None or not self.shares_blocks or self.reads == Reads.EVERYTHING:
            return ()
        return STEADY[self._candidate.kind]

    def _block_key(self, kind: str) -> tuple[Candidate, ...]:
        """Return which accepted candidates a block of the candidate's layer depends on."""
        key = self._keys[self._layer]
        return key if kind == "feed_forward" else tuple(c for c in key if c.layer < self._layer or not _is_above(c))

    def _install(self, i: int, layer: LayerPlan) -> Iterator[Undo]:
        module = self.modules[i]
        if i < self._layer:
            yield replaced(module, partial(self._layer_below, i, module.forward))
        yield module.register_forward_pre_hook(partial(self._enter, i), with_kwargs=True).remove
        for block in self.anatomy.blocks:
            units = block.left(self.before[i])
            if units is None:
                continue
            if block.left(layer) is not None:
                yield from self._block_run(i, block, units).install()
                continue
            for part, stub in stand_ins(block).items():
                yield replaced(module.get_submodule(part), stub.forward)

    def _block_run(self, i: int, block: Block, units: Sequence[int]) -> BlockRun:
        def features(candidates: Sequence[Candidate]) -> list[Features]:
            parts = [c for c in candidates if c.layer == i and BLOCK_OF_PART.get(c.kind) == block.kind]
            return [features_of(block, units, units_of(part, self.groups)) for part in parts]

        steady = i == self._layer and block.kind in self._steady_blocks()
        return BlockRun(
            block=block,
            layer=self.modules[i],
            closed=features(self._accepted),
            tried=features([self._candidate] if self._candidate else []),
            known=partial(self._known_of, block.kind),
            keep=partial(self._keep_block, block.kind) if steady else None,
            count=self.work.add,
        )

    def _embed(self, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        call, self._embed_calls = self._embed_calls, self._embed_calls + 1
        if self._embedded is not None:
            return self._embedded[call]
        output = forward(*args, **kwargs)
        if self.reads > Reads.EVERYTHING:
            self.records.keep_layer(self._batch, EMBEDDINGS, (), call, output)
        return output

    def _enter(self, i: int, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._calls[i] += 1
        x_BTC = next(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
        if i == 0:
            self.work.see_tokens(x_BTC)
        if i >= self._start:
            self.work.run_layer(i, x_BTC, self._known if i == self._layer else ())

    def _layer_below(self, i: int, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        call = self._calls[i] - 1
        if i < self._start:
            return self._below[call]
        output = forward(*args, **kwargs)
        if self.reads > Reads.EVERYTHING:
            self.records.keep_layer(self._batch, i, self._keys[i], call, output)
        return output

    def _known_of(self, kind: str) -> Known | None:
        known = self._known.get(kind)
        return None if known is None else known[self._calls[self._layer] - 1]

    def _keep_block(self, kind: str, known: Known) -> None:
        call = self._calls[self._layer] - 1
        self.records.keep_block(self._batch, self._layer, kind, self._block_key(kind), call, known)


def _is_above(candidate: Candidate) -> bool:
    """Tell whether a candidate comes after the attention block of its layer."""
    return candidate.kind in ("feed_forward", "neuron_group")
