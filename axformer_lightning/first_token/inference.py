"""Skipping the other tokens from now on, in plain calls of a model: for inference."""

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial, update_wrapper
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from axformer_lightning.anatomy import anatomy_of, layers_left
from axformer_lightning.basics import eval_mode
from axformer_lightning.first_token.skipping import reading_first_token, skipping
from axformer_lightning.int8 import Int8Linear, int8_ranges

logger = logging.getLogger(__name__)
RULE = "axformer_first_token"  # where a model for which the rule is set keeps its anatomy
INNER = ("output_hidden_states", "output_attentions")  # ask for what the rule leaves void
TOKENS = 16  # of a sample that a head is tried on, and so many samples: 120 words from each end of the vocabulary
_LOCKS: WeakKeyDictionary[nn.Module, Any] = WeakKeyDictionary()


def reads_first_token_only(model: PreTrainedModel, batch: Mapping[str, Any]) -> bool:
    """Tell whether the outputs of ``model`` depend on nothing but the first token of its last layer.

    They are computed twice, the second time with NaN in all other tokens. A bare encoder returns those tokens: False.

    Args:
        model: a model of a known family.
        batch: its input; samples of at least two tokens.

    Raises:
        ValueError: if samples have one token, or the family is unknown.

    Example:
        >>> from transformers import BertConfig, BertForSequenceClassification, BertModel
        >>> config, batch = BertConfig(hidden_size=12, num_hidden_layers=1), {"input_ids": torch.tensor([[3, 5, 7]])}
        >>> [reads_first_token_only(cls(config), batch) for cls in (BertForSequenceClassification, BertModel)]
        [True, False]
    """
    if hasattr(model, RULE):
        return True
    outputs: list[Tensor] = []  # of the last layer, which may be applied several times
    applications = 0

    def spoil(layer: nn.Module, args: tuple[Any, ...], out: Any) -> None:
        outputs.append(out[0] if isinstance(out, tuple) else out)
        if len(outputs) == 2 * applications:
            outputs[-1][:, 1:] = torch.nan

    def run() -> list[Tensor]:
        out = model(**batch)
        parts = out.values() if isinstance(out, Mapping) else out
        return [part for part in parts if isinstance(part, Tensor) and part.is_floating_point()]

    with ExitStack() as undo, torch.no_grad():
        undo.enter_context(torch.compiler.set_stance("force_eager"))  # compiled graphs ignore new hooks
        undo.enter_context(eval_mode(model))
        undo.enter_context(model.get_submodule(anatomy_of(model).layers[-1]).register_forward_hook(spoil))
        whole, applications = run(), len(outputs)
        if outputs[0].shape[1] < 2:
            raise ValueError("Expected samples of at least two tokens, got one. Pass longer ones.")
        same = [torch.equal(x, y) and bool(y.isfinite().all()) for x, y in zip(whole, run(), strict=True)]
    return same != [] and all(same)


def set_first_token_(model: PreTrainedModel) -> None:
    """Make plain calls of ``model`` skip what its head does not read, from now on: for inference.

    A warning says so if the model is in dynamic int8, whose range of a tensor is then that of fewer tokens.
    Nothing is skipped while the model trains, if the call or the config asks for ``output_hidden_states`` or
    ``output_attentions``, and under ``torch.compile``; ``torch.export`` skips unless it is strict. Between calls the
    layers are untouched, so the rule does not affect gates, cuts, hard attention, ``state_dict`` and files. Calls from
    several threads take turns.

    The head is tried on the first and the last 120 words of the vocabulary: one that picks other tokens by a word
    between them is not found out. For such a head ask :func:`reads_first_token_only`, with a batch that has that word.

    Raises:
        ValueError: if the head reads more than the first token, or the row of the family has no ``after_attention``.

    Example:
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> model = BertForSequenceClassification(BertConfig(hidden_size=12, num_hidden_layers=1)).eval()
        >>> ids = torch.tensor([[3, 5, 7]])
        >>> before, _, after = model(ids), set_first_token_(model), model(ids)
        >>> torch.allclose(before.logits, after.logits)
        True
    """
    if hasattr(model, RULE):
        return
    with reading_first_token(model, layers_left(model)):
        pass  # raises if that is not possible
    if not reads_first_token_only(model, _small_batch(model)):
        raise ValueError(
            f"Expected a model whose head reads nothing but the first token of the last layer, got a"
            f" {type(model).__name__} that reads more. Run it without the first-token rule (`first_token_only=False`)."
        )
    ranges = int8_ranges(model, layers_left(model))
    if any(isinstance(part, Int8Linear) and name not in ranges for name, part in model.named_modules()):
        logger.warning(
            "In dynamic int8 the first token alone has another range than all tokens, so the logits are others by some"
            " roundings. Make the model by `quantize(..., static=True)` to have them the same."
        )
    setattr(model, RULE, anatomy_of(model))  # looked up once, as it takes as long as some layers
    model.forward = update_wrapper(partial(_forward, model, model.forward), model.forward, ("__doc__",), ())


def _forward(model: PreTrainedModel, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if torch.compiler.is_dynamo_compiling():
        return forward(*args, **kwargs)
    with _LOCKS.setdefault(model, threading.RLock()):
        asked = [value for name in INNER for value in (kwargs.get(name), getattr(model.config, name, None))]
        if model.training or any(asked):
            return forward(*args, **kwargs)
        anatomy, plan = getattr(model, RULE), getattr(model, "axformer_plan", None)
        with skipping(model, anatomy, anatomy.dense_layers() if plan is None else plan.layers):
            return forward(*args, **kwargs)


def _small_batch(model: PreTrainedModel) -> dict[str, Tensor]:
    config = model.config
    if model.main_input_name == "pixel_values":
        size = (config.image_size,) * 2 if isinstance(config.image_size, int) else config.image_size
        return {"pixel_values": torch.zeros(1, config.num_channels, *size, device=model.device)}
    # As many samples as tokens: this is a valid sample of a multiple choice, too. After the first token come those by
    # which a head may pick others: special ones are the first of a vocabulary, markers of a user's own its last.
    size = max(3, min(TOKENS, getattr(config, "max_position_embeddings", TOKENS) - 2))  # RoBERTa keeps two for padding
    words = size * (size - 1)
    ids = torch.ones(size, size, dtype=torch.long, device=model.device)
    attention_mask = ids.clone()
    ids[:, 1:] = (torch.arange(words, device=model.device) - words // 2).view(size, -1) % config.vocab_size
    return {"input_ids": ids, "attention_mask": attention_mask}
