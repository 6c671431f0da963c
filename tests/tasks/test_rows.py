import pytest

from axformer_lightning.tasks import TASKS, load_rows, rows

HEADER = "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
ROWS = '1\t1\t2\t" No , he said .\tHe declined .\n0\t3\t4\tRain fell .\tThe sun \' shone "\n'


@pytest.fixture
def folder(tmp_path):
    """A data directory with MRPC's files in the official layout."""
    (tmp_path / "MRPC").mkdir()
    for part in ("train", "dev"):
        (tmp_path / "MRPC" / f"{part}.tsv").write_text(HEADER + ROWS, encoding="utf-8")
    return tmp_path


def test_official_files_are_read_unquoted_and_without_the_mark(folder):
    train, dev, test = load_rows("mrpc", folder)
    assert train[:] == dev[""][:]
    assert test == {}
    assert train["text_a"][:] == ['" No , he said .', "Rain fell ."]
    assert train["text_b"][:] == ["He declined .", "The sun ' shone \""]
    assert train["label"][:] == [1, 0]


def test_the_environment_names_the_directory(folder, monkeypatch):
    monkeypatch.setenv("GLUE_DIR", str(folder))
    assert len(load_rows("mrpc").train) == 2


def test_the_demo_is_made_whatever_the_environment_says(monkeypatch):
    monkeypatch.setenv("GLUE_DIR", "/nowhere")
    made = load_rows("demo")
    assert (len(made.train), len(made.dev[""])) == (rows.DEMO_TRAIN, rows.DEMO_DEV)
    assert not set(made.train["text_a"][:]) & set(made.dev[""]["text_b"][:])


def test_the_hub_gives_the_same_columns(monkeypatch):
    hub = {"sentence1": ["a"], "sentence2": ["b"], "label": [1], "idx": [0]}
    asked = []

    def load_dataset(*args):
        asked.append(args)
        return {part: rows.Dataset.from_dict(hub) for part in ("train", "validation", "test")}

    monkeypatch.delenv("GLUE_DIR", raising=False)
    monkeypatch.setattr(rows.datasets, "load_dataset", load_dataset)
    assert load_rows("mrpc").train[:] == {"text_a": ["a"], "text_b": ["b"], "label": [1]}
    assert asked == [("nyu-mll/glue", "mrpc")]


OTHERS_ONLY = ValueError("Couldn't find cache for nyu-mll/glue for config 'mrpc'")  # offline, where rte was loaded once


@pytest.mark.parametrize("error", [ConnectionError("no route"), OSError("offline"), OTHERS_ONLY])
def test_a_hub_that_does_not_answer_is_told_with_the_ways_out(monkeypatch, error):
    def load_dataset(*args):
        raise error

    monkeypatch.delenv("GLUE_DIR", raising=False)
    monkeypatch.setattr(rows.datasets, "load_dataset", load_dataset)
    with pytest.raises(ConnectionError, match=r"(?s)data_dir=DIR.*model=minilm.*python train\.py"):
        load_rows("mrpc")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER.replace("#2 String", "B") + ROWS, r"columns \['#2 String'\] in '.*train\.tsv'"),
        (HEADER + ROWS + "2\t1\t2\ta\tb\n", r"label of \['0', '1'\] in '.*train\.tsv', line 4, got '2'"),
        (HEADER + ROWS + "1\t1\t2\ta\n", r"Expected 5 tab-separated fields in '.*train\.tsv', line 4, got 4"),
        ("", r"columns .* in '.*train\.tsv'"),
    ],
)
def test_a_malformed_file_is_named(folder, text, message):
    (folder / "MRPC" / "train.tsv").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        load_rows("mrpc", folder)


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"MRPC/train\.tsv'.*`data_dir` or GLUE_DIR"):
        load_rows("mrpc", tmp_path)


def test_an_unknown_task_lists_the_known_ones():
    with pytest.raises(ValueError, match=rf"{sorted(TASKS)[0]}.*got 'colla'"):
        load_rows("colla")
