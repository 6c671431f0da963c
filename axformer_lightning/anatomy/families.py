"""The table of model families: a row of names each, no code."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Family:
    """Where one model family keeps its parts; names are relative to a layer unless stated otherwise.

    A removed block must add nothing to the residual stream. In a post-norm family its norm stays; in a pre-norm
    family the norm in front of a block belongs to its stubs, as nothing else reads what it puts out.

    Args:
        layers: the list of layers, relative to the base model; a ``*`` stands for every index of a list on the way.
        self_attention: the module that attends.
        head_readers: linear layers whose output features are the heads, in order (query, key, value).
        head_writer: linear layer that reads the heads and writes the attention block's result.
        neuron_readers: linear layers whose output features are the intermediate neurons.
        neuron_writer: linear layer that reads the neurons and writes the feed-forward block's result.
        attention_stubs: modules that together are the attention block without its residual path,
            with the number of values each returns.
        feed_forward_stubs: likewise for the feed-forward block.
        intermediate_size: name of the config field that counts the intermediate neurons.
        fused: readers that are several linear layers in one, with their number: a query, key and value projection
            in one matrix, or the two halves of a gated feed-forward block.
        optional_readers: further head readers, which only some configs have.
        without_heads: modules that cannot run, or need not, once no head is left; their stand-in returns no features.
        attention_dropout: the dropout that the attention weights pass through, in families that do not attend
            through the attention interface of transformers.
        position_bias: place among the arguments of ``self_attention`` of a bias with an entry for every head.
        after_attention: module that is given all that goes on from attention; its inputs may be cut to the first
            token. None where the first-token rule is not used.
        embeddings: module, relative to the base model, that makes the first layer's input of the tokens. Where there
            is none of this name the search computes it again for every candidate.
    """

    layers: str
    self_attention: str
    head_readers: tuple[str, ...]
    head_writer: str
    neuron_readers: tuple[str, ...]
    neuron_writer: str
    attention_stubs: dict[str, int] = field(hash=False)
    feed_forward_stubs: dict[str, int] = field(hash=False)
    intermediate_size: str = "intermediate_size"
    fused: dict[str, int] = field(default_factory=dict, hash=False)
    optional_readers: tuple[str, ...] = ()
    without_heads: tuple[str, ...] = ()
    attention_dropout: str | None = None
    position_bias: int | None = None
    after_attention: str | None = None
    embeddings: str = "embeddings"


BERT = Family(
    layers="encoder.layer",
    self_attention="attention.self",
    head_readers=("attention.self.query", "attention.self.key", "attention.self.value"),
    head_writer="attention.output.dense",
    neuron_readers=("intermediate.dense",),
    neuron_writer="output.dense",
    attention_stubs={"attention.self": 2, "attention.output.dense": 1},
    feed_forward_stubs={"intermediate": 1, "output.dense": 1},
    after_attention="attention.output",
)

FAMILIES: dict[str, Family] = {
    # One layer serves many applications here, so what is cut is cut in each of them.
    "albert": Family(
        layers="encoder.albert_layer_groups.*.albert_layers",
        self_attention="attention",
        head_readers=("attention.query", "attention.key", "attention.value"),
        head_writer="attention.dense",
        neuron_readers=("ffn",),
        neuron_writer="ffn_output",
        attention_stubs={"attention.query": 1, "attention.key": 1, "attention.value": 1, "attention.dense": 1},
        feed_forward_stubs={"ffn": 1, "ffn_output": 1},
        without_heads=("attention.query", "attention.key", "attention.value"),
    ),
    "bert": BERT,
    "camembert": BERT,
    # Every head has its own view of the relative positions, and an empty list of heads is divided by.
    "deberta-v2": Family(
        layers="encoder.layer",
        self_attention="attention.self",
        head_readers=("attention.self.query_proj", "attention.self.key_proj", "attention.self.value_proj"),
        head_writer="attention.output.dense",
        neuron_readers=("intermediate.dense",),
        neuron_writer="output.dense",
        attention_stubs={"attention.self": 2, "attention.output.dense": 1},
        feed_forward_stubs={"intermediate": 1, "output.dense": 1},
        optional_readers=("attention.self.pos_key_proj", "attention.self.pos_query_proj"),
        without_heads=("attention.self",),
        attention_dropout="attention.self.dropout",
        after_attention="attention.output",
    ),
    "distilbert": Family(
        layers="transformer.layer",
        self_attention="attention",
        head_readers=("attention.q_lin", "attention.k_lin", "attention.v_lin"),
        head_writer="attention.out_lin",
        neuron_readers=("ffn.lin1",),
        neuron_writer="ffn.lin2",
        attention_stubs={"attention": 2},
        feed_forward_stubs={"ffn": 1},
        intermediate_size="hidden_dim",
        after_attention="sa_layer_norm",
    ),
    "electra": BERT,
    "modernbert": Family(
        layers="layers",
        self_attention="attn",
        head_readers=("attn.Wqkv",),
        head_writer="attn.Wo",
        neuron_readers=("mlp.Wi",),
        neuron_writer="mlp.Wo",
        attention_stubs={"attn_norm": 1, "attn": 2},
        feed_forward_stubs={"mlp_norm": 1, "mlp": 1},
        fused={"attn.Wqkv": 3, "mlp.Wi": 2},
        after_attention="mlp_norm",
    ),
    # One relative position bias, made in front of the first layer, serves the heads of all layers.
    "mpnet": Family(
        layers="encoder.layer",
        self_attention="attention.attn",
        head_readers=("attention.attn.q", "attention.attn.k", "attention.attn.v"),
        head_writer="attention.attn.o",
        neuron_readers=("intermediate.dense",),
        neuron_writer="output.dense",
        attention_stubs={"attention.attn": 2},
        feed_forward_stubs={"intermediate": 1, "output.dense": 1},
        attention_dropout="attention.attn.dropout",
        position_bias=2,
        after_attention="attention.LayerNorm",
    ),
    "roberta": BERT,
    "vit": Family(
        layers="layers",
        self_attention="attention",
        head_readers=("attention.q_proj", "attention.k_proj", "attention.v_proj"),
        head_writer="attention.o_proj",
        neuron_readers=("mlp.fc1",),
        neuron_writer="mlp.fc2",
        attention_stubs={"layernorm_before": 1, "attention": 2},
        feed_forward_stubs={"layernorm_after": 1, "mlp": 1},
        after_attention="layernorm_after",
    ),
    "xlm-roberta": BERT,
}


def register_family(model_type: str, family: Family) -> None:
    """Make a model family known for the rest of the process.

    Args:
        model_type: ``config.model_type`` of its models.
        family: where its parts are.

    Raises:
        ValueError: if the family is known already.

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
