import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Value

from axformer_lightning.tasks import TextData, split_off
from axformer_lightning.tasks.demo import demo_pairs
from axformer_lightning.tasks.vocabulary import train_wordpiece


@pytest.fixture(scope="module")
def rows():
    features = Features(
        {"text_a": Value("string"), "text_b": Value("string"), "label": ClassLabel(names=["no", "yes"])}
    )
    columns = zip(*demo_pairs(200), strict=True)
    return Dataset.from_dict(dict(zip(features, map(list, columns), strict=True)), features=features)


@pytest.fixture(scope="module")
def data(rows):
    train, search = split_off(rows, 0.25, seed=0)
    tokenizer = train_wordpiece(rows["text_a"][:])
    return TextData(train, search, {"": search}, tokenizer, batch_size=16, max_length=40, seed=3)


@pytest.mark.parametrize("max_length", [0, 3, 4])
def test_a_length_without_room_for_a_word_of_each_text_is_refused(rows, max_length):
    tokenizer = train_wordpiece(rows["text_a"][:])
    words = r"`data\.max_length` of at least 5, for 3 special tokens and one of each text, got "
    with pytest.raises(ValueError, match=f"{words}{max_length}"):
        TextData(rows, rows, {"": rows}, tokenizer, max_length=max_length)
    few = rows.select(range(2))  # tokenizers also spell all that they cut off
    assert TextData(few, few, {}, tokenizer, max_length=5).train_rows["input_ids"][0][1] > 4  # a word
    single = rows.remove_columns("text_b")
    with pytest.raises(ValueError, match=r"at least 3, for 2 special"):
        TextData(single, single, {}, tokenizer, max_length=2)


def texts(part):
    return list(zip(part["text_a"][:], part["text_b"][:], strict=True))


def test_the_parts_are_disjoint_stratified_and_seeded(rows):
    train, search = split_off(rows, 0.25, seed=0)
    assert sorted(texts(train) + texts(search)) == sorted(texts(rows))
    assert len(search) == 50
    assert sum(search["label"][:]) / 50 == pytest.approx(sum(rows["label"][:]) / 200, abs=0.02)
    assert texts(split_off(rows, 0.25, seed=0)[1]) == texts(search)
    assert texts(split_off(rows, 0.25, seed=1)[1]) != texts(search)


def test_a_number_of_samples_can_be_asked_for(rows):
    assert [len(part) for part in split_off(rows, 30, seed=0)] == [170, 30]


@pytest.mark.parametrize("part", [0.0, 1.0, 1.5, 0, 200, -3])
def test_a_part_that_leaves_nothing_is_refused(rows, part):
    with pytest.raises(ValueError, match=r"1 to 199 of 200 samples, got .*data\.search_fraction"):
        split_off(rows, part, seed=0)


def test_a_part_too_small_for_every_class_is_refused(rows):
    with pytest.raises(ValueError, match=r"enough samples of every class"):
        split_off(rows, 1, seed=0)


def test_batches_are_padded_to_their_longest_and_cut_off(data):
    batches = list(data.val_dataloader())
    assert sum(len(batch["labels"]) for batch in batches) == 50
    for batch in batches:
        assert set(batch) == {"input_ids", "token_type_ids", "attention_mask", "labels"}
        assert batch["input_ids"].shape[1] == batch["attention_mask"].sum(1).max() <= 40


def test_training_batches_are_shuffled_the_same_for_a_seed(data):
    first, second = ([batch["input_ids"].tolist() for batch in data.train_dataloader()] for _ in range(2))
    assert first == second
    loader = data.train_dataloader()
    assert [b["input_ids"].tolist() for b in loader] != [b["input_ids"].tolist() for b in loader]


def test_training_samples_of_a_batch_are_about_equally_long(rows):
    texts = [" ".join(["word"] * (1 + i * 37 % 30)) for i in range(160)]
    train = Dataset.from_dict({"text_a": texts, "label": [0, 1] * 80})
    data = TextData(train, rows.select([0]), {}, train_wordpiece(texts), batch_size=16, max_length=40)
    masks = [batch["attention_mask"] for batch in data.train_dataloader()]
    assert sum(map(len, masks)) == 160
    in_order = [batch["attention_mask"] for batch in data.in_order(data.train_rows)]
    padded, padded_in_order = (sum(int((mask == 0).sum()) for mask in part) for part in (masks, in_order))
    assert 0 < padded < padded_in_order / 2


def test_the_search_set_is_trained_on_only_when_asked(data):
    assert len(data.train_dataloader().dataset) == 150
    data.train_on_all = True
    try:
        assert len(data.train_dataloader().dataset) == 200
    finally:
        data.train_on_all = False


def test_rows_without_labels_keep_their_order(data, rows):
    batches = list(data.rows_dataloader(rows.remove_columns("label")))
    wanted = data.tokenizer(rows["text_a"][:], rows["text_b"][:], truncation=True, max_length=40)["input_ids"]
    found = [
        ids[mask == 1].tolist()
        for batch in batches
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]
    assert found == wanted
    assert all("labels" not in batch for batch in batches)


def test_an_empty_batch_is_refused(rows):
    with pytest.raises(ValueError, match=r"data\.batch_size"):
        TextData(rows, rows, {"": rows}, train_wordpiece(["a"]), batch_size=0)


@pytest.mark.parametrize("on_all", [False, True])
def test_each_row_of_a_batch_comes_with_what_a_teacher_says_of_it(data, monkeypatch, on_all):
    monkeypatch.setattr(data, "train_on_all", on_all)
    rows = [ids for part in data.trained_on() for ids in part["input_ids"]]
    monkeypatch.setattr(data, "teacher_logits", [torch.tensor([float(i), sum(ids)]) for i, ids in enumerate(rows)])
    seen = []
    for batch in data.train_dataloader():
        for ids, (number, total) in zip(batch["input_ids"].tolist(), batch["teacher_logits"].tolist(), strict=True):
            assert rows[int(number)] == ids[: len(rows[int(number)])]
            assert sum(ids) == total  # padding is 0
            seen.append(number)
    assert sorted(seen) == list(range(len(rows)))
    assert len(rows) == 150 + 50 * on_all
    assert all("teacher_logits" not in batch for batch in data.val_dataloader())


def test_a_teacher_does_not_change_the_order(data, monkeypatch):
    plain = [batch["input_ids"] for batch in data.train_dataloader()]
    monkeypatch.setattr(data, "teacher_logits", [torch.zeros(2)] * 150)
    assert all(torch.equal(one["input_ids"], other) for one, other in zip(data.train_dataloader(), plain, strict=True))
