"""What a model costs in numbers that every machine agrees on: parameters and multiply-adds."""

import sys

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from axformer_lightning.anatomy import layer_modules
from axformer_lightning.basics import eval_mode
from axformer_lightning.first_token.inference import RULE
from axformer_lightning.hard_attention import eager_attention


def count_parameters(model: nn.Module) -> int:
    """Return the number of parameters; one that several modules share counts once.

    Example:
        >>> count_parameters(nn.Linear(3, 2))
        8
    """
    return sum(parameter.numel() for parameter in model.parameters())


def count_encoder_parameters(model: PreTrainedModel) -> int:
    """Return the number of parameters of the transformer layers: no embeddings, pooler or head.

    Args:
        model: a model of a known family, cut or not.

    Raises:
        ValueError: if the family is unknown.

    Example:
        >>> from transformers import BertConfig, BertModel
        >>> config = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=4, intermediate_size=16)
        >>> count_encoder_parameters(BertModel(config))
        600
    """
    return count_parameters(nn.ModuleList(layer_modules(model)))


def macs_per_sample(model: PreTrainedModel, length: int) -> int:
    """Return the multiply-adds of all matrix products while ``model`` reads one sample.

    They are counted while it runs, head and pooler included, so a cut model needs no formula of its own. Eager
    attention is run for it: the counter knows no fused attention kernels of the CPU. The products are the same.

    Args:
        model: a model of a known family, cut or not.
        length: tokens of the sample.

    Raises:
        ValueError: if the model cannot read so many tokens, or the family is unknown.

    Example:
        >>> from transformers import BertConfig, BertModel
        >>> config = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=4, intermediate_size=16)
        >>> model = BertModel(config, add_pooling_layer=False)
        >>> macs_per_sample(model, length=10)  # 10 * (4 * 8 * 8 + 2 * 8 * 16 + 2 * 10 * 8)
        6720
    """
    batch = uniform_batch(model, 1, length)
    with eval_mode(model), torch.no_grad(), eager_attention(model), FlopCounterMode(display=False) as counter:
        model(**batch)
    return int(counter.get_total_flops()) // 2


def check_computes_all(model: PreTrainedModel) -> None:
    """Raise if a model skips tokens: what a block costs there depends on which blocks are above it.

    Raises:
        ValueError: saying how to have it whole.
    """
    if hasattr(model, RULE):
        raise ValueError(
            "Expected a model that computes every token, got one that skips all but the first at the top. Load it with"
            " `first_token_only=False`."
        )


def uniform_batch(model: PreTrainedModel, batch_size: int, length: int) -> dict[str, Tensor]:
    """Return samples of ``length`` tokens, all the same and none of them padding, on the device of ``model``.

    A model of images gets images of the size that its config names, whatever the ``length``.

    Raises:
        ValueError: if there is no sample, no token, or more tokens than the model has positions for.

    Example:
        >>> from transformers import BertConfig, BertModel
        >>> config = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=4, intermediate_size=16)
        >>> uniform_batch(BertModel(config), batch_size=1, length=3)
        {'input_ids': tensor([[1, 1, 1]]), 'attention_mask': tensor([[1, 1, 1]])}
    """
    if batch_size < 1:
        raise ValueError(f"Expected a batch size of at least 1, got {batch_size}.")
    if model.main_input_name == "pixel_values":
        size = model.config.image_size
        height, width = (size, size) if isinstance(size, int) else size
        return {"pixel_values": torch.zeros(batch_size, model.config.num_channels, height, width, device=model.device)}
    longest = num_positions(model)
    if not 1 <= length <= longest:
        raise ValueError(f"Expected `length` to be 1 to {longest}, as many tokens as the model reads, got {length}.")
    padding = model.config.pad_token_id
    ids = torch.full((batch_size, length), 1 if padding in (None, 0) else 0, device=model.device)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def num_positions(model: PreTrainedModel) -> int:
    """Return how many tokens a sample may have; RoBERTa's positions begin after the padding's."""
    positions = getattr(model.config, "max_position_embeddings", sys.maxsize)
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            return positions - int(module.padding_idx) - 1
    return positions
