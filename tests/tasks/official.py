"""GLUE's official layouts, filled with invented sentences."""

import pytest

from axformer_lightning.tasks.demo import demo_pairs

FOLDERS = {
    "cola": "CoLA", "sst2": "SST-2", "mrpc": "MRPC", "stsb": "STS-B", "qqp": "QQP", "mnli": "MNLI", "qnli": "QNLI",
    "rte": "RTE", "wnli": "WNLI",
}  # fmt: skip
MNLI = "index promptID pairID genre sentence1_binary_parse sentence2_binary_parse sentence1_parse sentence2_parse"
STSB = "index genre filename year old_index source1 source2 sentence1 sentence2"
MRPC = "Quality|#1 ID|#2 ID|#1 String|#2 String"
# Headers of the training, the dev and the test set. CoLA's labelled files have none.
HEADERS = {
    "cola": (None, None, "index sentence"),
    "sst2": ("sentence label", "sentence label", "index sentence"),
    "mrpc": (MRPC, MRPC, MRPC.replace("Quality", "index")),
    "stsb": (f"{STSB} score", f"{STSB} score", STSB),
    "qqp": (*["id qid1 qid2 question1 question2 is_duplicate"] * 2, "id question1 question2"),
    "mnli": (
        f"{MNLI} sentence1 sentence2 label1 gold_label",
        f"{MNLI} sentence1 sentence2 label1 label2 label3 label4 label5 gold_label",
        f"{MNLI} sentence1 sentence2",
    ),
    "qnli": (*["index question sentence label"] * 2, "index question sentence"),
    "rte": (*["index sentence1 sentence2 label"] * 2, "index sentence1 sentence2"),
    "wnli": (*["index sentence1 sentence2 label"] * 2, "index sentence1 sentence2"),
}  # fmt: skip
FIRST_TEXTS = {"sentence", "sentence1", "question1", "question", "#1 String"}
SECOND_TEXTS = {"sentence2", "question2", "#2 String"}
LABELS = {"label", "Quality", "is_duplicate", "gold_label", "score"}


def label_of(task, i):
    if task == "stsb":
        return f"{i % 11 / 2:.3f}"
    names = {"mnli": ["neutral", "entailment", "contradiction"]}
    names |= {name: ["not_entailment", "entailment"] for name in ("qnli", "rte")}
    return names[task][i % 3 % len(names[task])] if task in names else str(i % 3 % 2)


def field_of(column, task, i, pair):
    if column in LABELS:
        return label_of(task, i)
    if column in SECOND_TEXTS or (column, task) == ("sentence", "qnli"):
        return pair.sentence2
    if column in FIRST_TEXTS:
        return f'" {pair.sentence1}'  # a quote that nothing closes
    return str(i)


def official(task, part, num_rows, seed):
    """The text of one official file."""
    header = HEADERS[task][("train", "dev", "test").index(part.split("_")[0])]
    columns = header.split("|" if "|" in header else " ") if header else ["source", "label", "star", "sentence"]
    lines = [] if header is None else ["\t".join(columns)]
    for i, pair in enumerate(demo_pairs(num_rows, seed)):
        lines.append("\t".join(field_of(column, task, i, pair) for column in columns))
    return "\ufeff" * (task == "mrpc") + "\n".join(lines) + "\n"


@pytest.fixture
def write_glue(tmp_path):
    """Writes a task's official files, forty rows to train on, and returns the data directory."""

    def write(task):
        folder = tmp_path / "glue" / FOLDERS[task]
        folder.mkdir(parents=True)
        parts = ("_matched", "_mismatched") if task == "mnli" else ("",)
        sizes = {"train": 40, **{f"dev{part}": 12 for part in parts}, **{f"test{part}": 9 for part in parts}}
        for seed, (part, size) in enumerate(sizes.items()):
            (folder / f"{part}.tsv").write_text(official(task, part, size, seed), encoding="utf-8")
        return folder.parent

    return write
