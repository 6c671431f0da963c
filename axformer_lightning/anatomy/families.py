"""The table of model families: a row of names each, no code."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Family:
    """Where one model family keeps its parts; names are relative to a layer unless stated otherwise.

    Args:
        layers: the list of layers, relative to the base model.
        self_attention: the module that calls the attention interface of transformers.
        head_readers: linear layers whose output features are the heads, in order (query, key, value).
        head_writer: linear layer that reads the heads and writes the attention block's result.
        neuron_readers: linear layers whose output features are the intermediate neurons.
        neuron_writer: linear layer that reads the neurons and writes the feed-forward block's result.
        attention_stubs: modules that together are the attention block without its residual path and norm,
            with the number of values each returns.
        feed_forward_stubs: likewise for the feed-forward block.
        intermediate_size: name of the config field that counts the intermediate neurons.
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


BERT = Family(
    layers="encoder.layer",
    self_attention="attention.self",
    head_readers=("attention.self.query", "attention.self.key", "attention.self.value"),
    head_writer="attention.output.dense",
    neuron_readers=("intermediate.dense",),
    neuron_writer="output.dense",
    attention_stubs={"attention.self": 2, "attention.output.dense": 1},
    feed_forward_stubs={"intermediate": 1, "output.dense": 1},
)

FAMILIES: dict[str, Family] = {
    "bert": BERT,
    "roberta": BERT,
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
    ),
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
