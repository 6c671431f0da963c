"""The first pass of a round: what do steps read of the layers, and what do the layers put out?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from axformer_lightning.finding.ranks import Ranks
from axformer_lightning.finding.reads import Reads, listening, what_is_read
from axformer_lightning.finding.replay import Replay
from axformer_lightning.scoring import Scored


@dataclass(frozen=True)
class Sizes:
    """How much the layers are given, over all processes.

    Args:
        layer_rows: sequences times layers that each goes through.
        longest: tokens of the longest sequence.
    """

    layer_rows: int
    longest: int


def first_pass(
    replay: Replay, score: Callable[[Any], Scored], batches: Sequence[Any], ranks: Ranks, most: Reads
) -> tuple[list[Scored], Sizes]:
    """Run every batch once, as the model is; tell ``replay`` what it may leave out, and keep what it will need.

    Args:
        replay: runs the model.
        score: scores a batch of ``batches``.
        batches: what this process scores.
        ranks: the processes that share the search.
        most: the most that may be left out.

    Returns:
        What every batch came to, and the sizes.
    """
    if replay.anatomy.family.after_attention is None:
        most = min(most, Reads.LAST_LAYER)
    reads, sizes, results = most, [(0, 0)], list[Scored]()
    for i, batch in enumerate(batches):
        with replay.running(()), listening(replay.transformer, replay.modules) as heard:
            replay.begin(i)
            result = score(batch)
        results.append(result)
        sizes.extend(heard.sizes)
        if reads > Reads.EVERYTHING:
            again = partial(score, batch)
            reads = min(reads, what_is_read(again, result, replay.transformer, replay.modules, heard))
            replay.keep(i, heard)
    told = ranks.gather([reads, sum(rows for rows, _ in sizes), max(tokens for _, tokens in sizes)])
    replay.reads = Reads(int(min(reads for reads, _, _ in told)))
    return results, Sizes(int(sum(rows for _, rows, _ in told)), int(max(tokens for _, _, tokens in told)))
