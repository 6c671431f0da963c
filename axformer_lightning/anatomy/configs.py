"""What the config of a model says that no cut can do with."""

from transformers import PreTrainedConfig

from axformer_lightning.anatomy.families import Family


def check_config(config: PreTrainedConfig, family: Family) -> None:
    """Refuse a model by its config, before its parts are looked for.

    Args:
        config: of a model of the family.
        family: its row.

    Raises:
        ValueError: naming the field.

    Example:
        >>> from transformers import BertConfig
        >>> from axformer_lightning.anatomy import BERT
        >>> check_config(BertConfig(is_decoder=True), BERT)
        Traceback (most recent call last):
        ValueError: Expected an encoder, got a 'bert' model with `is_decoder=True`. Load it as an encoder.
    """
    if getattr(config, "is_decoder", False):
        raise ValueError(
            f"Expected an encoder, got a {config.model_type!r} model with `is_decoder=True`. Load it as an encoder."
        )
    if getattr(config, "pruned_heads", None):
        raise ValueError(
            f"Expected a config without `pruned_heads`, got {config.pruned_heads}: transformers 5 ignores it and"
            " runs all heads. Clear it, and remove heads with `apply_plan_`."
        )
    if chunk := getattr(config, "chunk_size_feed_forward", 0):  # blocks run for the first token alone, say
        raise ValueError(
            f"Expected a config without `chunk_size_feed_forward`, got {chunk}: transformers refuses to run other"
            " numbers of tokens than its multiples. Load the model with `chunk_size_feed_forward=0`, which computes the"
            " same."
        )
    groups = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    if groups != config.num_attention_heads:
        raise ValueError(
            f"Expected a head of keys and values for each of {config.num_attention_heads} heads of queries, got"
            f" {groups}: heads that share keys cannot be cut one by one. Use a model without `num_key_value_heads`."
        )
    if not hasattr(config, family.intermediate_size):
        raise ValueError(
            f"Expected the field {family.intermediate_size!r} in the config of a {config.model_type!r} model, as the"
            " row of its family names it, but it is missing. Fix `intermediate_size` of the row."
        )
