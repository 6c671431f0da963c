import pytest
import torch

from axformer_lightning.tasks.squad import QuestionData, make_windows

SIZES = {"max_length": 48, "doc_stride": 12}


@pytest.fixture(scope="module")
def make(train, dev, dev_v2, wordpiece):
    search, rest = train.select(range(10)), train.select(range(10, 40))

    def build(**options):
        return QuestionData(rest, search, {"": dev, "_v2": dev_v2}, wordpiece, **{**SIZES, "batch_size": 8, **options})

    return build


@pytest.fixture(scope="module")
def data(make):
    return make()


def loaders(data):
    return [data.val_dataloader(), data.test_dataloader(), data.dev_dataloader("_v2")]


@pytest.mark.slow_but_first
@pytest.mark.parametrize("batch_size", [1, 2, 7, 8, 100])
def test_evaluation_batches_hold_whole_questions_side_by_side(make, batch_size):
    data = make(batch_size=batch_size)
    for loader, count in zip(loaders(data), (10, 40, 40), strict=True):
        seen = []
        for batch in loader:
            ids = batch["sample_ids"].tolist()
            questions = list(dict.fromkeys(ids))
            assert ids == sorted(ids)
            assert not set(questions) & set(seen)
            assert len(ids) <= batch_size or len(questions) == 1
            seen += questions
        assert len(seen) == count


def test_batches_are_as_full_as_whole_questions_allow(make):
    data = make(batch_size=8)
    sizes = [len(batch["input_ids"]) for batch in data.test_dataloader()]
    firsts = [int((batch["sample_ids"] == batch["sample_ids"][0]).sum()) for batch in data.test_dataloader()]
    assert all(size + first > 8 for size, first in zip(sizes, firsts[1:], strict=False))


def test_sample_ids_are_indices_of_the_table(data, dev):
    assert [question.id for question in data.questions[10:50]] == dev["id"][:]
    for loader in loaders(data):
        for batch in loader:
            for i, offsets, start, end in zip(
                *(batch[name] for name in ("sample_ids", "offsets", "start_positions", "end_positions")), strict=True
            ):
                question = data.questions[i]
                if start > 0:
                    text = question.context[offsets[start, 0] : offsets[end, 1]]
                    assert text == question.answers["text"][0]


def test_padding_is_marked_in_every_entry(data, wordpiece):
    batch = next(iter(data.val_dataloader()))
    assert {value.dtype for value in batch.values()} == {torch.int64}
    padding = batch["attention_mask"] == 0
    assert padding.any()
    assert padding[:, -1].logical_not().any()
    assert set(batch["input_ids"][padding].tolist()) == {wordpiece.pad_token_id}
    assert set(batch["offsets"][padding].flatten().tolist()) == {-1}
    assert batch["offsets"].shape == (*padding.shape, 2)


def test_a_batch_is_its_windows_without_the_padding(data, train, wordpiece):
    windows = iter(make_windows(train.select(range(10)), wordpiece, **SIZES))
    for batch in data.val_dataloader():
        for row, window in enumerate(next(windows) for _ in batch["input_ids"]):
            length = len(window["input_ids"])
            assert batch["offsets"][row, :length].tolist() == window.pop("offsets")
            assert {name: batch[name][row].tolist()[:length] for name in ("input_ids", "token_type_ids")} == {
                name: window[name] for name in ("input_ids", "token_type_ids")
            }
            assert batch["start_positions"][row] == window["start_positions"]
    assert next(windows, None) is None


def inputs(loader):
    return [tuple(row[row > 0].tolist()) for batch in loader for row in batch["input_ids"]]


@pytest.mark.slow
def test_training_windows_come_in_another_order_each_epoch_and_the_same_for_a_seed(make):
    loader = make(seed=3).train_dataloader()
    first, second = inputs(loader), inputs(loader)
    assert first != second
    assert sorted(first) == sorted(second)
    assert inputs(make(seed=3).train_dataloader()) == first
    assert inputs(make(seed=4).train_dataloader()) != first


def test_the_search_set_is_trained_on_when_asked_for(make):
    data = make()
    without = inputs(data.train_dataloader())
    data.train_on_all = True
    assert sorted(inputs(data.train_dataloader())) == sorted(without + inputs(data.val_dataloader()))


def test_no_question_to_train_on_has_a_number_of_the_table(data):
    ids = {i for batch in data.train_dataloader() for i in batch["sample_ids"].tolist()}
    assert len(ids) == 30
    assert min(ids) == len(data.questions) == 90


def test_answers_that_are_nowhere_leave_training_and_search_but_not_dev(train, wordpiece, caplog):
    def spoil(row):
        return row | {"answers": {"text": ["kraken"], "answer_start": [0]}} if row["id"] == train["id"][0] else row

    spoiled = train.from_list([spoil(row) for row in train], features=train.features)
    data = QuestionData(spoiled, spoiled, {"": spoiled}, wordpiece, **SIZES)
    assert len(data.questions) == 39 + 40
    assert sorted(set(data.train_rows["sample_ids"])) == list(range(79, 79 + 39))
    assert data.questions[39].answers == {"text": ["kraken"], "answer_start": [-1]}
    labels = [window["start_positions"] for window in data.dev_rows[""] if window["sample_ids"] == 39]
    assert set(labels) == {0}
    assert len(caplog.records) == 3


@pytest.mark.parametrize(("option", "least"), [("batch_size", 1), ("doc_stride", 0)])
def test_a_setting_that_is_too_small_is_refused(make, option, least):
    with pytest.raises(ValueError, match=rf"`data\.{option}` to be at least {least}, got {least - 1}"):
        make(**{option: least - 1})


def test_a_tokenizer_without_a_pad_token_is_refused(train, wordpiece):
    tokenizer = type(wordpiece)(vocab=wordpiece.get_vocab())
    tokenizer.pad_token = None
    with pytest.raises(ValueError, match=r"pad token, got BertTokenizer without one: set `tokenizer\.pad_token`"):
        QuestionData(train, train, {"": train}, tokenizer)
