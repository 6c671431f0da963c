import pytest
from datasets import ClassLabel, Dataset, Features, Value

from axformer_lightning.tasks import TASKS, read_unlabelled
from axformer_lightning.tasks.phrases import words_of
from axformer_lightning.tasks.split import apart_from

PAIRS = Features({"text_a": Value("string"), "text_b": Value("string"), "label": ClassLabel(names=["no", "yes"])})


def pairs(*texts):
    parts = [text.split("|") for text in texts]
    columns = {"text_a": [a for a, _ in parts], "text_b": [b for _, b in parts], "label": [0] * len(parts)}
    return Dataset.from_dict(columns, features=PAIRS)


def texts(*single):
    return Dataset.from_dict({"text_a": list(single), "label": [0.0] * len(single)})


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "more.tsv"
    lines = [
        "index\tquestion1\tquestion2\tis_duplicate",
        *(f"{i}\t{pair.replace('|', chr(9))}\t1" for i, pair in enumerate(MORE)),
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


MORE = ["Who?|What?", "When?|Where?", "Why?|How?", "Is it?|It is."]


def test_rows_that_train_decide_or_report_are_left_out_whatever_their_case(file, caplog):
    with caplog.at_level("INFO"):
        found = read_unlabelled(file, TASKS["qqp"], pairs("who?|WHAT?"), [pairs("When?|  Where?"), pairs("Why?|Who?")])
    assert found["text_a"][:] == ["Why?", "Is it?"]
    assert found["label"][:] == [-1, -1]
    assert found.features == PAIRS
    assert "2 of 4 texts" in caplog.text


def test_numbers_are_no_labels_either(tmp_path):
    path = tmp_path / "more.tsv"
    path.write_text("sentence1\tsentence2\nIt rained.\tIt poured.\n", encoding="utf-8")
    features = Features({**PAIRS, "label": Value("float32")})
    train = Dataset.from_dict({"text_a": ["a"], "text_b": ["b"], "label": [2.5]}, features=features)
    assert read_unlabelled(path, TASKS["stsb"], train)["label"][:] == [-1.0]


@pytest.mark.parametrize(
    ("apart", "left"),
    [
        ("rows", ["a good film|so sad", "good film|so sad", "a film|so sad", "so sad|a good film"]),
        ("texts", ["good film|so sad", "a film|so sad", "so sad|a good film"]),
        ("sentences", ["a film|so sad", "so sad|a good film"]),
    ],
)
def test_what_a_search_set_shares_with_no_training_row_it_shares_with_none_of_these(apart, left):
    rows = pairs("a good film|dull", "a good film|so sad", "good film|so sad", "a film|so sad", "so sad|a good film")
    kept = apart_from(rows, [pairs("A good film|dull")], apart)
    assert [f"{a}|{b}" for a, b in zip(kept["text_a"], kept["text_b"], strict=True)] == left


def test_a_phrase_that_stands_elsewhere_too_is_no_phrase_of_a_held_out_sentence():
    rows = texts("good film", "a film", "not a good film")
    assert apart_from(rows, [texts("a good film to see")], "sentences")["text_a"][:] == [
        "good film",
        "a film",
        "not a good film",
    ]
    assert words_of("good film") not in map(
        words_of, apart_from(texts("good film"), [texts("a good film")], "sentences")["text_a"][:]
    )


@pytest.mark.parametrize(
    ("task", "name", "words"),
    [
        ("qqp", "nowhere.tsv", r"a file with the columns .*'question1', 'question2'.*not there.*leave out `distill"),
        ("qqp", ".", "a directory"),
        ("mrpc", "more.tsv", r"Expected the columns \['#1 String', '#2 String'\]"),
        ("squad", "more.tsv", "a task of GLUE"),
        ("demo", "more.tsv", "a task of GLUE"),
    ],
)
def test_what_cannot_be_read_is_told(file, task, name, words):
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        read_unlabelled(file.parent / name, TASKS[task], pairs("a|b"))


def test_a_file_of_nothing_new_is_refused(file):
    with pytest.raises(ValueError, match="not in train, search or dev set, got 4 that are"):
        read_unlabelled(file, TASKS["qqp"], pairs(*MORE))
