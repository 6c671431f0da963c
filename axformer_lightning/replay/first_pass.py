"""The first pass of a round: which outputs of the layers do steps read, and what are those outputs?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from axformer_lightning.replay.calls import Reading
from axformer_lightning.replay.ranks import Ranks
from axformer_lightning.replay.reads import Reads, listening, what_is_read
from axformer_lightning.replay.replay import Replay
from axformer_lightning.replay.running import running
from axformer_lightning.scoring import Scored


@dataclass(frozen=True)
class FirstPass:
    """The result of the first pass over the search set.

    Args:
        replay: skips what nothing reads, and holds the cache.
        results: the scores of every batch of this process.
        layer_rows: sequences times the layers that each passes through, over all processes.
        longest: tokens of the longest sequence, over all processes.
    """

    replay: Replay
    results: Sequence[Scored]
    layer_rows: int
    longest: int


def first_pass(
    replay: Replay, score: Callable[[Any], Scored], batches: Sequence[Any], ranks: Ranks, most: Reads
) -> FirstPass:
    """Run every batch once with the model as it is; find out what may be skipped, and cache what will be needed.

    Args:
        replay: runs the whole model.
        score: scores a batch of ``batches``.
        batches: the batches that this process scores.
        ranks: the processes that share the search.
        most: the most that may be skipped.
    """
    if replay.anatomy.family.after_attention is None:
        most = min(most, Reads.LAST_LAYER)
    reads, sizes, results, num_calls = most, [(0, 0)], list[Scored](), list[int]()
    for i, batch in enumerate(batches):
        with running(replay, ()) as model, listening(replay.transformer, replay.modules) as heard:
            result = model.step(i, partial(score, batch))
        results.append(result)
        sizes.extend(heard.sizes)
        num_calls.append(heard.model_calls)
        if reads > Reads.EVERYTHING:
            again = partial(score, batch)
            reads = min(reads, what_is_read(again, result, replay.transformer, replay.modules, heard))
        if reads > Reads.EVERYTHING:  # else some layers may not have run, and nothing that is kept is looked up
            replay.keep(i, heard)
    found = ranks.gather([reads, sum(rows for rows, _ in sizes), max(tokens for _, tokens in sizes)])
    reading = Reading(Reads(int(min(reads for reads, _, _ in found))), num_calls)
    return FirstPass(
        replace(replay, reading=reading),
        results,
        layer_rows=int(sum(rows for _, rows, _ in found)),
        longest=int(max(tokens for _, _, tokens in found)),
    )
