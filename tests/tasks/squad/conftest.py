import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from axformer_lightning.tasks.squad import read_squad
from axformer_lightning.tasks.vocabulary import train_wordpiece
from tests.tasks.squad.official import write_squad

SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A directory with official files of both versions."""
    directory = tmp_path_factory.mktemp("squad")
    return write_squad(write_squad(directory, "1.1"), "2.0")


@pytest.fixture(scope="session")
def train(folder):
    return read_squad(folder / "train-v1.1.json", with_impossible=False)


@pytest.fixture(scope="session")
def dev(folder):
    return read_squad(folder / "dev-v1.1.json", with_impossible=False)


@pytest.fixture(scope="session")
def dev_v2(folder):
    return read_squad(folder / "dev-v2.0.json", with_impossible=True)


def texts(rows):
    return [*rows["question"], *rows["context"]]


@pytest.fixture(scope="session")
def wordpiece(train):
    return train_wordpiece(texts(train), vocab_size=300)


def make_fast(rows, pre_tokenizer, decoder):
    """A tokenizer like RoBERTa's: two separators, no token types, and blanks that belong to the words after them."""
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.pre_tokenizer, backend.decoder = pre_tokenizer, decoder
    alphabet = sorted({character for text in texts(rows) for character in text})
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(texts(rows), trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        cls_token="<s>",
        sep_token="</s>",
        unk_token="<unk>",
        model_input_names=["input_ids", "attention_mask"],
    )


@pytest.fixture(scope="session", params=["wordpiece", "byte_level", "metaspace"])
def tokenizer(request, wordpiece, train):
    if request.param == "wordpiece":
        return wordpiece
    if request.param == "byte_level":
        return make_fast(train, pre_tokenizers.ByteLevel(), decoders.ByteLevel())
    words = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()])
    return make_fast(train, words, decoders.Metaspace())
