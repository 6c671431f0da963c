"""Multiply-adds of blocks by formula, without building a model.

Shape suffixes: ``T`` tokens, ``Q`` the tokens whose result anything reads, ``P`` relative positions.
"""

from axformer_lightning.anatomy import Anatomy, Block


def block_macs(
    anatomy: Anatomy,
    block: Block,
    units: int,
    tokens: int,
    hidden: int,
    *,
    samples: int = 1,
    read: int | None = None,
    asked: int | None = None,
) -> int:
    """Return the multiply-adds of a block's matrix products in one batch.

    An attention block with ``u = units * head_size`` features, hidden size ``h``, ``T`` tokens, of which ``Q`` are
    read, does ``u * (h * (2T + asked + Q) + 2 * T * Q)`` in each sample: keys and values, queries, the
    out-projection; scores and contexts. With ``P`` relative positions (DeBERTa, arXiv 2006.03654, equation 4) it
    does ``u * T * P`` more in each sample, and ``u * h * P`` in each batch. A feed-forward block does ``Q * h * u``
    in each of its linear layers.

    Args:
        anatomy: the model's parts.
        block: one of its blocks.
        units: heads or neurons that it computes.
        tokens: of a sample.
        hidden: features of a token between the layers.
        samples: of the batch.
        read: how many tokens' results anything reads, in each sample; by default all.
        asked: how many tokens' queries are computed, in each sample; by default those that are read.

    Example:
        >>> from axformer_lightning.anatomy import BERT
        >>> anatomy = Anatomy("bert", BERT, ("layer.0",), num_heads=4, head_size=2, intermediate_size=16)
        >>> [block_macs(anatomy, block, block.num_units, tokens=10, hidden=8) for block in anatomy.blocks]
        [4160, 2560]
    """
    features = units * block.width
    read = tokens if read is None else read
    if block.kind == "feed_forward":
        return samples * read * hidden * features * block.num_linears
    asked = read if asked is None else asked
    linears = tokens * (block.num_linears - 2) + asked + read
    # Families outside the attention interface compute the scores of all queries, also of those that nobody reads.
    scores = tokens * (read if anatomy.family.attention_dropout is None else tokens)
    positions = anatomy.relative_positions
    return features * (samples * (hidden * linears + 2 * scores + tokens * positions) + hidden * positions)


def macs_per_token(anatomy: Anatomy, tokens: int, samples: int = 1) -> float:
    """Return the multiply-adds of an uncut layer, per token of a batch of ``samples`` with ``tokens`` each.

    Example:
        >>> from axformer_lightning.anatomy import BERT
        >>> macs_per_token(Anatomy("bert", BERT, ("layer.0",), 4, 2, 16), tokens=10)
        672.0
    """
    hidden = anatomy.num_heads * anatomy.head_size
    return sum(
        block_macs(anatomy, block, block.num_units, tokens, hidden, samples=samples) for block in anatomy.blocks
    ) / (tokens * samples)
