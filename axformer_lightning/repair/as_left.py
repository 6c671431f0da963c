"""Running a model as it would be left: cut, and repaired."""

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from axformer_lightning.anatomy import LayerPlan
from axformer_lightning.repair.moments import Moments
from axformer_lightning.repair.repair import Repair, Solved, find_repair, repaired_weights, without_repair
from axformer_lightning.replay import Applied, AppliedModel, Replay, running_as

Layers = tuple[LayerPlan, ...]


@dataclass(frozen=True)
class AsLeft:
    """A model as cuts would leave it.

    Args:
        replay: runs of the model what a cut changes.
        moments: of the model as it is.
        means: whether means of removed blocks are kept: nearest to all tokens, and often worse for the task than none.
        repairs: whether what is left of a block is repaired, or stays as the cut leaves it.
        solved: repairs found so far.
    """

    replay: Replay
    moments: Moments
    means: bool = False
    repairs: bool = True
    solved: Solved = field(default_factory=dict)

    def repair_of(self, layers: Layers) -> Repair:
        """Return how the model is repaired once it is cut to ``layers``."""
        if not self.repairs:
            return without_repair(self.replay.transformer, layers)
        return find_repair(self.replay.transformer, layers, self.moments, means=self.means, solved=self.solved)

    @contextmanager
    def running(self, layers: Layers, like: Layers | None = None) -> Iterator[AppliedModel]:
        """Let the model run as if it were cut to ``layers`` and repaired; afterwards it is as before, to the bit.

        Args:
            layers: what is to be left.
            like: layers of which those below the first that differs need not be run again: what they put out is looked
                up, or kept for the next time. By default those of the model as it is.
        """
        repair = self.repair_of(layers)
        with (
            repaired_weights(self.replay.transformer, repair),
            running_as(self.replay, self._applied(layers, repair, like)) as model,
        ):
            yield model

    def _applied(self, layers: Layers, repair: Repair, like: Layers | None) -> Applied:
        mine = self._keys(layers, repair)
        theirs = (
            mine
            if like == layers
            else self._keys(like or self.replay.before, None if like is None else self.repair_of(like))
        )
        same = next((i for i, (one, other) in enumerate(zip(mine, theirs, strict=True)) if one != other), len(mine))
        embedded, *keys = mine
        return Applied.as_layers(self.replay.before, layers, keys, max(0, same - 1), embedded)

    def _keys(self, layers: Layers, repair: Repair | None) -> list[tuple[Hashable, ...]]:
        """Return what the output of the embeddings, and of each layer, depends on; nothing as the model is.

        That is the cut of all layers up to it, and which blocks above are removed, as it may take up their means.
        """
        names = [] if repair is None else list(repair.values)
        paths = self.replay.anatomy.layers
        at = [next((i for i, path in enumerate(paths) if name.startswith(f"{path}.")), -1) for name in names]
        at += [i for i, (now, wanted) in enumerate(zip(self.replay.before, layers, strict=True)) if now != wanted]
        first = min(at, default=len(paths))
        removed = tuple((layer.attention, layer.feed_forward) for layer in layers)
        return [() if i < first else (layers[: i + 1], removed[i + 1 :]) for i in range(-1, len(paths))]
