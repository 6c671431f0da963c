"""SPELL: leave out of the embeddings, and of the tokenizer, the word pieces that no text uses.

Half of a small encoder's file is its embeddings, most rows of which a task never reads. What is left is an ordinary
model with an ordinary tokenizer: other texts are spelled by the pieces that remain, single characters among them.
"""

import copy
import json
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)
CHUNK = 1000  # texts tokenized at once
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
Json = dict[str, Any]


def trim_vocabulary_(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]
) -> PreTrainedTokenizerBase:
    """Remove the embeddings of all word pieces that ``texts`` do not use, in place, and return the tokenizer to them.

    The texts are tokenized as before, to the same pieces with other numbers, so the model gives the same for them.
    Other texts may be cut into more and shorter pieces: measure that on a dev set. Special tokens stay, and so do
    single characters, by which every word can be spelled that could be before.

    Args:
        model: reads token ids; without a head over the vocabulary.
        tokenizer: of the model, unchanged; of the kinds WordPiece, BPE or Unigram.
        texts: all that has to be tokenized as now, such as a training set and a corpus of what is to come.

    Raises:
        ValueError: if there is no text, the model predicts tokens or has other embeddings than the tokenizer's, or the
            tokenizer is of another kind. Nothing is changed then.

    Example:
        >>> from transformers import BertConfig, BertModel, BertTokenizer
        >>> pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "##s", "as", "the", "cat", "dog"]
        >>> tokenizer = BertTokenizer(vocab={piece: i for i, piece in enumerate(pieces)})
        >>> sizes = {"hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 6}
        >>> model = BertModel(BertConfig(vocab_size=len(tokenizer), **sizes))
        >>> smaller = trim_vocabulary_(model, tokenizer, ["the dog"])
        >>> smaller.tokenize("the dog as cat"), model.config.vocab_size
        (['the', 'dog', 'a', '##s', '[UNK]'], 9)
    """
    lines = list(texts)
    if not lines:
        raise ValueError("Expected the texts whose word pieces stay, got none.")
    embeddings = model.get_input_embeddings()
    if model.get_output_embeddings() is not None:
        raise ValueError(f"Expected a model that predicts no tokens, got {type(model).__name__}. Use its encoder.")
    if not isinstance(embeddings, nn.Embedding) or embeddings.num_embeddings < len(tokenizer):
        raise ValueError(
            f"Expected an nn.Embedding of at least the {len(tokenizer)} pieces of the tokenizer, got {embeddings}. Load"
            " model and tokenizer from one directory."
        )
    backend = getattr(tokenizer, "backend_tokenizer", None)  # those that are written in Python have none
    described: Json = {} if backend is None else json.loads(backend.to_str())
    kind = described["model"]["type"] if described else type(tokenizer).__name__
    if kind not in KINDS:
        raise ValueError(
            f"Expected a tokenizer with a `tokenizer.json` of one of the kinds {[*KINDS]}, got {kind}. Use the model"
            " with all of its vocabulary, or take another model."
        )
    used = {
        i
        for start in range(0, len(lines), CHUNK)
        for ids in tokenizer(lines[start : start + CHUNK])["input_ids"]
        for i in ids
    }
    rules = described["model"]
    used |= {*tokenizer.all_special_ids, *(entry["id"] for entry in described["added_tokens"])}
    pad = tokenizer.pad_token_id or 0
    used |= {*range(pad + 1)} if _counts_from_padding(model, embeddings) else {pad}
    pieces = {piece: i for piece, i in tokenizer.get_vocab().items() if i < embeddings.num_embeddings}
    unknown = (rules.get("unk_id"), pieces.get(rules.get("unk_token")))  # nothing else has to name it
    named = (getattr(model.config, "pad_token_id", None), embeddings.padding_idx, *unknown)
    used |= {i for i in named if i is not None and i < embeddings.num_embeddings}
    used |= {i for piece, i in pieces.items() if len(_letters(rules, piece)) == 1}
    if rules.get("byte_fallback"):  # characters without a piece are spelled by their bytes
        used |= {pieces[byte] for byte in BYTES if byte in pieces}
    kept = sorted(KINDS[kind](rules, pieces, used))
    numbers = {old: new for new, old in enumerate(kept)}
    trimmed = copy.deepcopy(tokenizer)
    trimmed._tokenizer = Tokenizer.from_str(json.dumps(_renumbered(described, numbers)))
    logger.info("Vocabulary: %d of %d word pieces are left.", len(kept), embeddings.num_embeddings)
    _keep_rows_(model, embeddings, numbers)
    return trimmed


def _counts_from_padding(model: nn.Module, embeddings: nn.Embedding) -> bool:
    """Tell whether positions are counted from the number of the padding, as in RoBERTa, so that it has to stay."""
    others = (module for module in model.modules() if module is not embeddings)
    return any(getattr(module, "padding_idx", None) is not None for module in others)


def _letters(model: Json, piece: str) -> str:
    """Return a piece without what it says of its place in the word: `##` of WordPiece, `</w>` of some BPE."""
    prefix, suffix = (model.get(name) or "" for name in ("continuing_subword_prefix", "end_of_word_suffix"))
    return piece.removeprefix(prefix).removesuffix(suffix)


def _all_of(model: Json, pieces: Mapping[str, int], used: set[int]) -> set[int]:
    """WordPiece takes the longest piece that fits, Unigram the likeliest: what was never taken can go."""
    return used


def _with_parts(model: Json, pieces: Mapping[str, int], used: set[int]) -> set[int]:
    """BPE makes pieces of pieces: all that a used one may be made of has to stay."""
    parts: dict[str, list[tuple[str, str]]] = {}
    for merge in model["merges"]:
        left, right, whole = _merged(model, merge)
        parts.setdefault(whole, []).append((left, right))
    names = {i: piece for piece, i in pieces.items()}
    found, waiting = set(used), [names[i] for i in used if i in names]
    while waiting:
        for pair in parts.get(waiting.pop(), ()):
            for part in pair:
                if part in pieces and pieces[part] not in found:
                    found.add(pieces[part])
                    waiting.append(part)
    return found


KINDS: dict[str, Callable[[Json, Mapping[str, int], set[int]], set[int]]] = {
    "WordPiece": _all_of,
    "Unigram": _all_of,
    "BPE": _with_parts,
}


def _renumbered(described: Json, numbers: Mapping[int, int]) -> Json:
    """Return the description of a tokenizer with the pieces that stay, by their new numbers."""
    model = dict(described["model"])
    if model["type"] == "Unigram":
        model["vocab"] = [entry for i, entry in enumerate(model["vocab"]) if i in numbers]
        model["unk_id"] = numbers.get(model["unk_id"])
    else:
        model["vocab"] = {piece: numbers[i] for piece, i in model["vocab"].items() if i in numbers}
    if model["type"] == "BPE":
        model["merges"] = [merge for merge in model["merges"] if {*_merged(model, merge)} <= model["vocab"].keys()]
    added = [{**entry, "id": numbers[entry["id"]]} for entry in described["added_tokens"]]
    padding = described.get("padding")
    return {
        **described,
        "model": model,
        "added_tokens": added,
        "padding": padding and {**padding, "pad_id": numbers[padding["pad_id"]]},
        "post_processor": _processor(described.get("post_processor"), numbers),
    }


def _merged(model: Json, merge: Any) -> tuple[str, str, str]:
    """Return the two pieces of a merge and what it makes of them: a prefix inside a word is not spelled twice."""
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right, left + right.removeprefix(model.get("continuing_subword_prefix") or "")


def _processor(value: Any, numbers: Mapping[int, int]) -> Any:
    """Return a post-processor with new numbers: those in lists `ids`, and of pairs `["[SEP]", 102]`."""
    if isinstance(value, Mapping):
        return {
            key: [numbers[i] for i in item] if key == "ids" else _processor(item, numbers)
            for key, item in value.items()
        }
    if isinstance(value, list):
        if len(value) == 2 and isinstance(value[0], str) and type(value[1]) is int:
            return [value[0], numbers[value[1]]]
        return [_processor(item, numbers) for item in value]
    return value


def _keep_rows_(model: PreTrainedModel, embeddings: nn.Embedding, numbers: Mapping[int, int]) -> None:
    with torch.inference_mode(False), torch.no_grad():
        rows = embeddings.weight[torch.tensor([*numbers], device=embeddings.weight.device)].clone()
    embeddings.weight = nn.Parameter(rows, requires_grad=embeddings.weight.requires_grad)
    embeddings.num_embeddings = len(numbers)
    if embeddings.padding_idx is not None:  # the row that gets no gradient
        embeddings.padding_idx = numbers[embeddings.padding_idx]
    model.config.vocab_size = len(numbers)
    for name, value in vars(model.config).items():
        if name.endswith("_token_id") and isinstance(value, int) and value in numbers:
            setattr(model.config, name, numbers[value])
