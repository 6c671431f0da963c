"""FIND: which layers, blocks, heads and neurons a transformer encoder has, by name.

Nothing here holds a module: a :class:`Family` is a row of dotted names, an :class:`Anatomy` is names and
numbers, and a :class:`LayerPlan` says what is left of one layer. Names are resolved to modules when they are used.
"""

from axformer_lightning.anatomy.blocks import Block
from axformer_lightning.anatomy.families import BERT, FAMILIES, Family, register_family
from axformer_lightning.anatomy.kinds import (
    BLOCKS,
    KINDS,
    Candidate,
    Kind,
    PhaseName,
    SearchSpace,
    neuron_groups,
    with_candidates,
)
from axformer_lightning.anatomy.layers import IN_INT8, WORD_EMBEDDINGS, BlockRanges, HardAttention, LayerPlan
from axformer_lightning.anatomy.models import (
    ORIGINAL,
    Anatomy,
    anatomy_of,
    find_transformer,
    layer_modules,
    layers_left,
    original_layers,
)

__all__ = [
    "BERT",
    "BLOCKS",
    "FAMILIES",
    "IN_INT8",
    "KINDS",
    "ORIGINAL",
    "WORD_EMBEDDINGS",
    "Anatomy",
    "Block",
    "BlockRanges",
    "Candidate",
    "Family",
    "HardAttention",
    "Kind",
    "LayerPlan",
    "PhaseName",
    "SearchSpace",
    "anatomy_of",
    "find_transformer",
    "layer_modules",
    "layers_left",
    "neuron_groups",
    "original_layers",
    "register_family",
    "with_candidates",
]
