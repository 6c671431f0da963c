"""A vocabulary trained on the spot, for a BERT with random weights that downloads nothing."""

from collections.abc import Iterable
from string import ascii_lowercase, digits, punctuation

from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.trainers import WordPieceTrainer
from transformers import BertTokenizer, PreTrainedTokenizerBase

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def train_wordpiece(texts: Iterable[str], vocab_size: int = 2000, max_length: int = 128) -> PreTrainedTokenizerBase:
    """Return a lower-casing BERT tokenizer with a vocabulary trained on ``texts``.

    The same texts give the same vocabulary in every process. All printable ASCII can be
    spelled, so there are more than a hundred pieces even for little text.

    Args:
        texts: sentences of the training set.
        vocab_size: the most pieces, special tokens included.
        max_length: length that ``truncation=True`` cuts to, saved as ``model_max_length``.

    Raises:
        ValueError: if there is no text, or if ``vocab_size`` is too small to spell it.

    Example:
        >>> tokenizer = train_wordpiece(["A captain moored the ferry.", "The captain left."])
        >>> tokenizer.tokenize("The CAPTAIN ate.")
        ['the', 'captain', 'a', '##t', '##e', '.']
    """
    blank = BertTokenizer()
    rules = blank.backend_tokenizer
    lines = [rules.normalizer.normalize_str(text) for text in texts]
    if not any(line.strip() for line in lines):
        raise ValueError(
            f"Expected at least one text with a word in it, got {len(lines)} texts without any;"
            " pass the sentences of the training set."
        )
    spelling = [*_SPECIAL, *_alphabet(lines)]
    if vocab_size < len(spelling):
        raise ValueError(
            f"Expected `vocab_size` to be at least {len(spelling)}, got {vocab_size};"
            " make it large enough for the special tokens and every character of the texts."
        )
    learner = Tokenizer(WordPiece(unk_token="[UNK]"))
    learner.normalizer = rules.normalizer
    learner.pre_tokenizer = rules.pre_tokenizer
    # The trainer numbers continuation characters in the random order of a Rust hash map, and breaks
    # ties by number. Passed as "special" they get fixed numbers beforehand.
    trainer = WordPieceTrainer(vocab_size=vocab_size, special_tokens=spelling, show_progress=False)
    learner.train_from_iterator(lines, trainer)
    return BertTokenizer(vocab=learner.get_vocab(), model_max_length=max_length)


def _alphabet(lines: list[str]) -> list[str]:
    """Every character that may begin a word, then every one that may continue it."""
    found = {character for line in lines for character in line if not character.isspace()}
    characters = sorted(found.union(ascii_lowercase, digits, punctuation))
    return characters + [f"##{character}" for character in characters if character not in punctuation]
