"""Multiply-adds of a plan by formula, without building a model.

Shape suffixes: ``T`` tokens, ``Q`` the tokens whose result anything reads.
"""

from axformer_lightning.anatomy import Anatomy, Block


def block_macs(
    anatomy: Anatomy,
    block: Block,
    units: int,
    tokens: int,
    hidden: int,
    *,
    read: int | None = None,
    asked: int | None = None,
) -> int:
    """Return the multiply-adds of a block's matrix products in one sample.

    An attention block with ``u = units * head_size`` features, hidden size ``h``, ``T`` tokens, of which ``Q`` are
    read, does ``u * (h * (2T + asked + Q) + 2 * T * Q)``: keys and values, queries, the out-projection; scores and
    contexts. A feed-forward block does ``Q * h * u`` in each of its linear layers.

    Args:
        anatomy: the model's parts.
        block: one of its blocks.
        units: heads or neurons that it computes.
        tokens: of the sample.
        hidden: features of a token between the layers.
        read: how many tokens' results anything reads; by default all.
        asked: how many tokens' queries are computed; by default those that are read.

    Example:
        >>> from axformer_lightning.anatomy import BERT
        >>> anatomy = Anatomy("bert", BERT, ("layer.0",), num_heads=4, head_size=2, intermediate_size=16)
        >>> [block_macs(anatomy, block, block.num_units, tokens=10, hidden=8) for block in anatomy.blocks]
        [4160, 2560]
    """
    features = units * block.width
    read = tokens if read is None else read
    if block.kind == "feed_forward":
        return read * hidden * features * block.num_linears
    asked = read if asked is None else asked
    linears = tokens * (block.num_linears - 2) + asked + read
    # Families outside the attention interface compute the scores of all queries, also of those that nobody reads.
    scores = tokens * (read if anatomy.family.attention_dropout is None else tokens)
    return features * (hidden * linears + 2 * scores)


def macs_per_token(anatomy: Anatomy, tokens: int) -> float:
    """Return the multiply-adds of an uncut layer, per token of a sample of ``tokens``.

    Example:
        >>> from axformer_lightning.anatomy import BERT
        >>> macs_per_token(Anatomy("bert", BERT, ("layer.0",), 4, 2, 16), tokens=10)
        672.0
    """
    hidden = anatomy.num_heads * anatomy.head_size
    return sum(block_macs(anatomy, block, block.num_units, tokens, hidden) for block in anatomy.blocks) / tokens
