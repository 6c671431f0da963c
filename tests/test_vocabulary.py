"""Word pieces that no text uses are removed."""

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    PhobertTokenizer,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from axformer_lightning import load_pretrained, save_pretrained
from axformer_lightning.tasks.vocabulary import train_wordpiece
from axformer_lightning.vocabulary import trim_vocabulary_

TEXTS = ["a captain moored the ferry", "the captain left the harbour at noon", "ferries leave when captains are aboard"]
OTHERS = ["seven seagulls sang above an empty wharf", "zebra quartz"]
SIZES = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 12}


def wordpiece():
    return train_wordpiece(TEXTS + OTHERS, 300)


def bpe():
    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    made.train_from_iterator(
        TEXTS + OTHERS,
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return wrapped(made, special)


def unigram():
    made = Tokenizer(models.Unigram())
    made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    made.train_from_iterator(
        TEXTS + OTHERS,
        trainers.UnigramTrainer(vocab_size=120, special_tokens=special, unk_token="<unk>", show_progress=False),
    )
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return wrapped(made, special)


def wrapped(made, special):
    names = dict(zip(("bos_token", "pad_token", "eos_token", "unk_token", "mask_token"), special, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=made, cls_token="<s>", sep_token="</s>", **names)


def model_of(tokenizer, name):
    torch.manual_seed(0)
    sizes = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id, **SIZES}
    if name == "wordpiece":
        return BertForSequenceClassification(BertConfig(**sizes)).eval()
    return RobertaForSequenceClassification(RobertaConfig(**sizes, max_position_embeddings=64)).eval()


TOKENIZERS = {"wordpiece": wordpiece, "bpe": bpe, "unigram": unigram}


def logits(model, tokenizer, texts):
    with torch.inference_mode():
        return model(**tokenizer(texts, padding=True, return_tensors="pt")).logits


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_texts_are_read_as_before(name, tmp_path):
    tokenizer = TOKENIZERS[name]()
    model = model_of(tokenizer, name)
    before, pieces = logits(model, tokenizer, TEXTS), [tokenizer.tokenize(text) for text in TEXTS]
    vocabulary, size = tokenizer.get_vocab(), len(tokenizer)
    smaller = trim_vocabulary_(model, tokenizer, TEXTS)
    assert [smaller.tokenize(text) for text in TEXTS] == pieces
    assert torch.equal(logits(model, smaller, TEXTS), before)
    assert len(smaller) == model.config.vocab_size == model.get_input_embeddings().num_embeddings < size
    assert tokenizer.get_vocab() == vocabulary

    save_pretrained(model, tmp_path / "ours", tokenizer=smaller)
    assert torch.equal(logits(load_pretrained(tmp_path / "ours"), smaller, TEXTS), before)
    loaded = AutoTokenizer.from_pretrained(tmp_path / "ours")
    assert loaded(TEXTS)["input_ids"] == smaller(TEXTS)["input_ids"]
    anybodys = AutoModelForSequenceClassification.from_pretrained(tmp_path / "ours")  # an ordinary model
    assert torch.equal(logits(anybodys.eval(), loaded, TEXTS), before)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_other_texts_are_spelled_by_what_is_left(name):
    tokenizer = TOKENIZERS[name]()
    model = model_of(tokenizer, name)
    smaller = trim_vocabulary_(model, tokenizer, TEXTS)
    unknown = smaller.convert_tokens_to_ids(smaller.unk_token)
    ids = smaller(OTHERS)["input_ids"]
    assert all(i < model.config.vocab_size for row in ids for i in row)
    assert unknown not in [i for row in ids for i in row]
    assert sum(map(len, ids)) > sum(map(len, tokenizer(OTHERS)["input_ids"]))
    assert logits(model, smaller, OTHERS).isfinite().all()


def special_at_the_end():
    """As ModernBERT has it, whose padding is one of the last pieces."""
    made = Tokenizer.from_str(bpe().backend_tokenizer.to_str())
    made.add_special_tokens(["[PAD]", "[CLS]", "[SEP]"])
    ends = [(token, made.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]")


def test_a_padding_that_is_the_last_piece_does_not_keep_all_before_it():
    tokenizer, others = special_at_the_end(), ["bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"]
    sizes = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id, **dict.fromkeys(others), **SIZES}
    torch.manual_seed(0)
    model = ModernBertForSequenceClassification(ModernBertConfig(**sizes)).eval()
    before, size = logits(model, tokenizer, TEXTS), len(tokenizer)
    smaller = trim_vocabulary_(model, tokenizer, TEXTS)
    assert torch.equal(logits(model, smaller, TEXTS), before)
    assert len(smaller) < size
    words = model.get_input_embeddings()
    assert smaller.pad_token_id == model.config.pad_token_id == words.padding_idx < words.num_embeddings
    batch = smaller(TEXTS, padding=True, return_tensors="pt")
    model(**batch).logits.sum().backward()
    silent = words.weight.grad.abs().sum(1) == 0
    assert not silent[batch["input_ids"].unique()[:-3]].any()  # the last three are special


def test_bytes_stay_by_which_other_characters_are_spelled():
    pieces = ["<pad>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "a", "c", "t", "ca", "cat"]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    merges = [("c", "a"), ("ca", "t")]
    made = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", unk_token="<unk>")
    model = BertForSequenceClassification(BertConfig(vocab_size=len(tokenizer), **SIZES))
    smaller = trim_vocabulary_(model, tokenizer, ["a"])
    assert smaller.tokenize("cat\u00e9") == ["c", "a", "t", "<0xC3>", "<0xA9>"]


def test_what_a_tokenizer_makes_of_unknown_characters_stays_also_if_nothing_names_it():
    made = Tokenizer(models.Unigram([("<pad>", 0.0), ("x", -1.0), ("?", -9.0), ("xx", -1.0), ("<unk>", 0.0)], unk_id=4))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>")
    model = BertForSequenceClassification(BertConfig(vocab_size=len(tokenizer), **SIZES))
    assert trim_vocabulary_(model, tokenizer, ["x"]).tokenize("x\u00e9") == ["x", "\u00e9"]


MARKED = {  # what tells the place of a piece in its word, and what the tokenizer then makes of two words
    "end_of_word_suffix": (
        ["[PAD]", "[UNK]", "a", "b", "a</w>", "b</w>", "ab</w>", "ba</w>"],
        ["ab</w>", "b", "a</w>"],
    ),
    "continuing_subword_prefix": (["[PAD]", "[UNK]", "a", "b", "@@a", "@@b", "ab", "ba"], ["ab", "b", "@@a"]),
}


@pytest.mark.parametrize("mark", MARKED)
def test_letters_and_merges_stay_that_are_marked_by_their_place_in_the_word(mark):
    pieces, expected = MARKED[mark]
    marks = {mark: {"end_of_word_suffix": "</w>", "continuing_subword_prefix": "@@"}[mark]}
    merges = [(pieces[2], pieces[5]), (pieces[3], pieces[4])]
    made = Tokenizer(models.BPE({p: i for i, p in enumerate(pieces)}, merges, unk_token="[UNK]", **marks))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]")
    model = BertForSequenceClassification(BertConfig(vocab_size=len(tokenizer), **SIZES))
    assert trim_vocabulary_(model, tokenizer, ["ab"]).tokenize("ab ba") == expected


def test_the_piece_for_unknown_words_stays_also_if_it_is_no_special_token():
    pieces = {piece: i for i, piece in enumerate(["[PAD]", "[UNK]", "a", "##b", "ab"])}
    made = Tokenizer(models.WordPiece(pieces, unk_token="[UNK]"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, pad_token="[PAD]")
    model = BertForSequenceClassification(BertConfig(vocab_size=len(tokenizer), **SIZES))
    assert trim_vocabulary_(model, tokenizer, ["ab"]).tokenize("zebra") == ["[UNK]"]


def test_a_tokenizer_that_is_written_in_python_is_refused(tmp_path):
    (tmp_path / "vocab.txt").write_text("a 1\nb 1\n")
    (tmp_path / "bpe.codes").write_text("#version: 0.2\n")
    tokenizer = PhobertTokenizer(str(tmp_path / "vocab.txt"), str(tmp_path / "bpe.codes"))
    model = RobertaForSequenceClassification(RobertaConfig(vocab_size=len(tokenizer), **SIZES))
    with pytest.raises(ValueError, match=r"with a `tokenizer\.json` of one of the kinds .*, got PhobertTokenizer\."):
        trim_vocabulary_(model, tokenizer, ["a"])


def test_special_tokens_and_their_numbers_in_the_config_stay():
    tokenizer = wordpiece()
    model = model_of(tokenizer, "wordpiece")
    smaller = trim_vocabulary_(model, tokenizer, TEXTS)
    assert smaller.all_special_tokens == tokenizer.all_special_tokens
    assert model.config.pad_token_id == smaller.pad_token_id
    first, *_, last = smaller("noon")["input_ids"]
    assert smaller.convert_ids_to_tokens([first, last]) == ["[CLS]", "[SEP]"]


@pytest.mark.parametrize(
    ("make", "texts", "message"),
    [
        (lambda n: BertForSequenceClassification(BertConfig(vocab_size=n, **SIZES)), [], "the texts .* got none"),
        (
            lambda n: BertForMaskedLM(BertConfig(vocab_size=n, **SIZES)),
            TEXTS,
            "predicts no tokens, got BertFor",
        ),
        (lambda n: BertForSequenceClassification(BertConfig(vocab_size=9, **SIZES)), TEXTS, "at least the .* pieces"),
    ],
)
def test_what_cannot_be_trimmed_is_refused_and_unchanged(make, texts, message, state):
    tokenizer = wordpiece()
    model = make(len(tokenizer))
    before = state(model)
    with pytest.raises(ValueError, match=message):
        trim_vocabulary_(model, tokenizer, texts)
    assert state(model) == before
