"""What a pass over the search set runs with: the candidates, and what is looked up for each batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from axformer_lightning.anatomy import KINDS, Candidate, LayerPlan, SearchSpace, with_candidates
from axformer_lightning.replay.block_runs import Known
from axformer_lightning.replay.reads import Reads


@dataclass(frozen=True)
class Reading:
    """What the first pass over the search set found out, by which later passes leave work out.

    Args:
        reads: what steps read of the layers' outputs.
        num_calls: how often each batch calls the model.
    """

    reads: Reads = Reads.EVERYTHING
    num_calls: Sequence[int] = ()


NOTHING_READ = Reading()


@dataclass(frozen=True)
class Applied:
    """Candidates that a model runs with, and what follows from them.

    Args:
        accepted: those that were accepted, in order.
        tried: the one that is tried; None where nothing is.
        before: what is left of each layer without them.
        layers: what is left of each layer with them.
        layer: where the tried one is; the number of layers without one.
        keys: for each layer, the accepted candidates that its output depends on.
        steady: the blocks of that layer that compute the same with the tried one as without it, and are shared.
    """

    accepted: tuple[Candidate, ...]
    tried: Candidate | None
    before: tuple[LayerPlan, ...]
    layers: tuple[LayerPlan, ...]
    layer: int
    keys: tuple[tuple[Candidate, ...], ...]
    steady: tuple[str, ...]

    @classmethod
    def of(
        cls, candidates: tuple[Candidate, ...], before: tuple[LayerPlan, ...], space: SearchSpace, *, shares: bool
    ) -> "Applied":
        """Return what follows from ``candidates``, of which the last is tried; ``shares`` allows shared blocks."""
        accepted, tried = candidates[:-1], candidates[-1] if candidates else None
        return cls(
            accepted=accepted,
            tried=tried,
            before=before,
            layers=with_candidates(before, candidates, space),
            layer=len(before) if tried is None else tried.layer,
            keys=tuple(tuple(c for c in accepted if c.layer <= i) for i in range(len(before))),
            steady=KINDS[tried.kind].steady if shares and tried else (),
        )

    def block_key(self, kind: str) -> tuple[Candidate, ...]:
        """Return which accepted candidates a block of the tried one's layer depends on."""
        key = self.keys[self.layer]
        return tuple(c for c in key if c.layer < self.layer or kind in ("feed_forward", KINDS[c.kind].block))


class Call:
    """One step of one batch, while it runs: what is looked up for it, and how far it is.

    Args:
        batch: index of the batch.
        num_layers: layers of the model.
        start: the first layer that runs.
        below: what the layer below that put out, by call of the model.
        embedded: what the embeddings put out, by call, or None where that was not kept.
        known: what is known of the steady blocks, by call.
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
