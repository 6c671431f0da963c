"""The input of a pass over the search set: the candidates, and the cached values of each batch."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from axformer_lightning.anatomy import KINDS, WORD_EMBEDDINGS, Candidate, LayerPlan, SearchSpace, with_candidates
from axformer_lightning.replay.block_runs import Known
from axformer_lightning.replay.reads import Reads


@dataclass(frozen=True)
class Reading:
    """What the first pass over the search set found out, so that later passes can skip work.

    Args:
        reads: which of the layers' outputs the steps read.
        num_calls: how often each batch calls the model.
    """

    reads: Reads = Reads.EVERYTHING
    num_calls: Sequence[int] = ()


NOTHING_READ = Reading()


@dataclass(frozen=True)
class Applied:
    """The candidates that a model runs with, and what follows from them.

    Args:
        accepted: those that were accepted, in order.
        tried: the one that is tried, or None.
        before: what is left of each layer without them.
        layers: what is left of each layer with them.
        layer: the layer of the tried one; the number of layers if there is none.
        keys: for each layer, the accepted candidates that its output depends on.
        steady: the blocks of that layer that compute the same with the tried one as without it, and are shared.
        embedded_key: what the embeddings' output depends on.
    """

    accepted: tuple[Candidate, ...]
    tried: Candidate | None
    before: tuple[LayerPlan, ...]
    layers: tuple[LayerPlan, ...]
    layer: int
    keys: tuple[tuple[Hashable, ...], ...]
    steady: tuple[str, ...]
    embedded_key: Hashable = ()

    @classmethod
    def of(
        cls, candidates: tuple[Candidate, ...], before: tuple[LayerPlan, ...], space: SearchSpace, *, shares: bool
    ) -> "Applied":
        """Return what follows from ``candidates``, the last of which is tried; ``shares`` allows shared blocks."""
        accepted, tried = candidates[:-1], candidates[-1] if candidates else None
        return cls(
            accepted=accepted,
            tried=tried,
            before=before,
            layers=with_candidates(before, candidates, space),
            layer=len(before) if tried is None else tried.layer,
            keys=tuple(tuple(c for c in accepted if c.layer <= i) for i in range(len(before))),
            steady=KINDS[tried.kind].steady if shares and tried else (),
            embedded_key=tuple(c for c in candidates if KINDS[c.kind].block == WORD_EMBEDDINGS),
        )

    @classmethod
    def as_layers(
        cls,
        before: tuple[LayerPlan, ...],
        layers: tuple[LayerPlan, ...],
        keys: Sequence[tuple[Hashable, ...]],
        first: int,
        embedded_key: Hashable = (),
    ) -> "Applied":
        """Return what follows from layers that are given as such; whoever gives them closes units by weights of zero.

        Args:
            before: what is left of each layer as the model is.
            layers: what it is to run as.
            keys: for each layer, all that its output depends on.
            first: the first layer whose output nobody needs again; what is kept of those below is looked up.
            embedded_key: what the embeddings' output depends on.
        """
        return cls((), None, before, layers, first, tuple(keys), (), embedded_key)

    def block_key(self, kind: str) -> tuple[Candidate, ...]:
        """Return the accepted candidates that a block of the tried one's layer depends on."""
        key = [c for c in self.keys[self.layer] if isinstance(c, Candidate)]
        return tuple(c for c in key if c.layer < self.layer or kind in ("feed_forward", KINDS[c.kind].block))


class Call:
    """One step of one batch, while it runs: the cached values that it uses, and its progress.

    Args:
        batch: index of the batch.
        num_layers: layers of the model.
        start: the first layer that runs.
        below: outputs of the layer below that one, by call of the model.
        embedded: outputs of the embeddings, by call, or None if they are not cached.
        known: cached values of the steady blocks, by call.
    """

    def __init__(
        self,
        batch: int,
        num_layers: int,
        start: int = 0,
        below: Sequence[Any] = (),
        embedded: Sequence[Any] | None = None,
        known: dict[str, list[Known]] | None = None,
    ) -> None:
        self.batch, self.start, self.below, self.embedded = batch, start, below, embedded
        self.known = known or {}
        self.layer_calls = [0] * num_layers
        self.embed_calls = 0
        self.per_token = 1.0  # multiply-adds of an uncut layer, once the first layer has been entered
