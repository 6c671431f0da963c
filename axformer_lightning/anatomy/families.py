"""The table of model families: a row of names each, no code."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import Any


@dataclass(frozen=True)
class Family:
    """Where one model family keeps its parts; names are relative to a layer unless stated otherwise.

    A removed block must add nothing to the residual stream. In a post-norm family its norm stays; in a pre-norm
    family the norm in front of a block is one of its modules, as nothing else reads its output.

    Args:
        layers: the list of layers, relative to the base model; a ``*`` stands for every index of a list on the way.
        self_attention: the module that computes attention.
        head_in_projections: linear layers that produce the heads, in order (query, key, value).
        head_out_projection: linear layer that consumes the heads and returns the attention block's result.
        neuron_in_projections: linear layers that produce the intermediate neurons.
        neuron_out_projection: linear layer that consumes the neurons and returns the feed-forward block's result.
        attention_modules: modules that together form the attention block without its residual path,
            with the number of values each returns.
        feed_forward_modules: likewise for the feed-forward block.
        intermediate_size: name of the config field that counts the intermediate neurons.
        fused: in-projections that fuse several linear layers, with their number: a query, key and value projection
            in one matrix, or the two halves of a gated feed-forward block.
        optional_in_projections: further in-projections of heads, which only some configs have.
        without_heads: modules that cannot or need not run once no head is left; their stand-in returns no features.
        attention_dropout: the dropout that the attention weights pass through, in families that do not attend
            through the attention interface of transformers.
        position_bias: place among the arguments of ``self_attention`` of a bias with an entry for every head.
        relative_positions: an embedding, relative to the base model, each row of which every head projects and
            compares with the tokens, and the config field that lists in which directions it does so. A model without
            that embedding has no such positions.
        after_attention: module that everything passes through after attention; its inputs may be cut to the first
            token. None if the first-token rule is not used.
        embeddings: module, relative to the base model, that turns the tokens into the first layer's input. If there is
            no module of this name, the search runs the embeddings again for every candidate.
        post_norms: in a post-norm family, the norms after the residual sums of attention and feed-forward block.
        pre_norm: whether blocks write to a residual stream that nothing reads but the norms in front of blocks and one
            at the end. Where neither is said, the mean of a removed block has no place to go.
        shifts_input: parameters, relative to the base model, that are added to the first layer's input of every
            token; the first that a model has is used.
        reads_around: module, relative to the base model, that reads the inputs of the first two layers, too.

    Example:
        >>> BERT.neuron_in_projections, BERT.attention_modules  # the row of BERT and its like
        (('intermediate.dense',), {'attention.self': 2, 'attention.output.dense': 1})
    """

    layers: str
    self_attention: str
    head_in_projections: tuple[str, ...]
    head_out_projection: str
    neuron_in_projections: tuple[str, ...]
    neuron_out_projection: str
    attention_modules: dict[str, int] = field(hash=False)
    feed_forward_modules: dict[str, int] = field(hash=False)
    intermediate_size: str = "intermediate_size"
    fused: dict[str, int] = field(default_factory=dict, hash=False)
    optional_in_projections: tuple[str, ...] = ()
    without_heads: tuple[str, ...] = ()
    attention_dropout: str | None = None
    position_bias: int | None = None
    relative_positions: tuple[str, str] | None = None
    after_attention: str | None = None
    embeddings: str = "embeddings"
    post_norms: tuple[str, str] | None = None
    pre_norm: bool = False
    shifts_input: tuple[str, ...] = ("embeddings.LayerNorm.bias",)
    reads_around: str | None = None


RENAMED = {  # fields of a Family by their former names
    "head_readers": "head_in_projections",
    "head_writer": "head_out_projection",
    "neuron_readers": "neuron_in_projections",
    "neuron_writer": "neuron_out_projection",
    "attention_stubs": "attention_modules",
    "feed_forward_stubs": "feed_forward_modules",
    "optional_readers": "optional_in_projections",
}


def _with_former_names(init: Callable[..., None]) -> Callable[..., None]:
    """Accept the former names of fields, with a warning."""

    @wraps(init)
    def read(self: Family, *args: Any, **fields: Any) -> None:
        for old in fields.keys() & RENAMED.keys():
            warnings.warn(f"The field `{old}` of a Family is now `{RENAMED[old]}`.", DeprecationWarning, stacklevel=2)
        init(self, *args, **{RENAMED.get(name, name): value for name, value in fields.items()})

    return read


Family.__init__ = _with_former_names(Family.__init__)  # type: ignore[method-assign]


BERT = Family(
    layers="encoder.layer",
    self_attention="attention.self",
    head_in_projections=("attention.self.query", "attention.self.key", "attention.self.value"),
    head_out_projection="attention.output.dense",
    neuron_in_projections=("intermediate.dense",),
    neuron_out_projection="output.dense",
    attention_modules={"attention.self": 2, "attention.output.dense": 1},
    feed_forward_modules={"intermediate": 1, "output.dense": 1},
    after_attention="attention.output",
    post_norms=("attention.output.LayerNorm", "output.LayerNorm"),
    shifts_input=("embeddings_project.bias", "embeddings.LayerNorm.bias"),  # the first in ELECTRA alone
)

FAMILIES: dict[str, Family] = {
    # One layer is applied many times here, so a cut is a cut in every application.
    "albert": Family(
        layers="encoder.albert_layer_groups.*.albert_layers",
        self_attention="attention",
        head_in_projections=("attention.query", "attention.key", "attention.value"),
        head_out_projection="attention.dense",
        neuron_in_projections=("ffn",),
        neuron_out_projection="ffn_output",
        attention_modules={"attention.query": 1, "attention.key": 1, "attention.value": 1, "attention.dense": 1},
        feed_forward_modules={"ffn": 1, "ffn_output": 1},
        without_heads=("attention.query", "attention.key", "attention.value"),
        post_norms=("attention.LayerNorm", "full_layer_layer_norm"),
        shifts_input=("encoder.embedding_hidden_mapping_in.bias",),
    ),
    "bert": BERT,
    "camembert": BERT,
    # Every head projects the relative positions for itself; and the code divides by the number of heads.
    "deberta-v2": Family(
        layers="encoder.layer",
        self_attention="attention.self",
        head_in_projections=("attention.self.query_proj", "attention.self.key_proj", "attention.self.value_proj"),
        head_out_projection="attention.output.dense",
        neuron_in_projections=("intermediate.dense",),
        neuron_out_projection="output.dense",
        attention_modules={"attention.self": 2, "attention.output.dense": 1},
        feed_forward_modules={"intermediate": 1, "output.dense": 1},
        optional_in_projections=("attention.self.pos_key_proj", "attention.self.pos_query_proj"),
        without_heads=("attention.self",),
        attention_dropout="attention.self.dropout",
        relative_positions=("encoder.rel_embeddings", "pos_att_type"),
        after_attention="attention.output",
        post_norms=("attention.output.LayerNorm", "output.LayerNorm"),
        reads_around="encoder.conv",
    ),
    "distilbert": Family(
        layers="transformer.layer",
        self_attention="attention",
        head_in_projections=("attention.q_lin", "attention.k_lin", "attention.v_lin"),
        head_out_projection="attention.out_lin",
        neuron_in_projections=("ffn.lin1",),
        neuron_out_projection="ffn.lin2",
        attention_modules={"attention": 2},
        feed_forward_modules={"ffn": 1},
        intermediate_size="hidden_dim",
        after_attention="sa_layer_norm",
        post_norms=("sa_layer_norm", "output_layer_norm"),
    ),
    "electra": BERT,
    "modernbert": Family(
        layers="layers",
        self_attention="attn",
        head_in_projections=("attn.Wqkv",),
        head_out_projection="attn.Wo",
        neuron_in_projections=("mlp.Wi",),
        neuron_out_projection="mlp.Wo",
        attention_modules={"attn_norm": 1, "attn": 2},
        feed_forward_modules={"mlp_norm": 1, "mlp": 1},
        fused={"attn.Wqkv": 3, "mlp.Wi": 2},
        after_attention="mlp_norm",
        pre_norm=True,
        shifts_input=("embeddings.norm.bias",),
    ),
    # One relative position bias, computed before the first layer, serves the heads of all layers.
    "mpnet": Family(
        layers="encoder.layer",
        self_attention="attention.attn",
        head_in_projections=("attention.attn.q", "attention.attn.k", "attention.attn.v"),
        head_out_projection="attention.attn.o",
        neuron_in_projections=("intermediate.dense",),
        neuron_out_projection="output.dense",
        attention_modules={"attention.attn": 2},
        feed_forward_modules={"intermediate": 1, "output.dense": 1},
        attention_dropout="attention.attn.dropout",
        position_bias=2,
        after_attention="attention.LayerNorm",
        post_norms=("attention.LayerNorm", "output.LayerNorm"),
    ),
    "roberta": BERT,
    "vit": Family(
        layers="layers",
        self_attention="attention",
        head_in_projections=("attention.q_proj", "attention.k_proj", "attention.v_proj"),
        head_out_projection="attention.o_proj",
        neuron_in_projections=("mlp.fc1",),
        neuron_out_projection="mlp.fc2",
        attention_modules={"layernorm_before": 1, "attention": 2},
        feed_forward_modules={"layernorm_after": 1, "mlp": 1},
        after_attention="layernorm_after",
        pre_norm=True,
        shifts_input=("embeddings.position_embeddings",),
    ),
    "xlm-roberta": BERT,
}


def register_family(model_type: str, family: Family) -> None:
    """Add the row of a model family for the rest of the process.

    Args:
        model_type: ``config.model_type`` of its models.
        family: where its parts are.

    Raises:
        ValueError: if the family has a row already.

    Example:
        >>> register_family("bert", BERT)
        Traceback (most recent call last):
        ValueError: Expected a model_type that has no row yet, got 'bert'. ...
    """
    if model_type in FAMILIES:
        raise ValueError(
            f"Expected a model_type that has no row yet, got {model_type!r}. Change its row in place:"
            f" `axformer_lightning.anatomy.FAMILIES[{model_type!r}] = ...`."
        )
    FAMILIES[model_type] = family
