"""docs/tutorial.md: every block runs, in order, as it stands there; only the model and the data around it are tiny."""

import importlib.util
import json
import random
import re
import shlex
import threading
import urllib.request
from itertools import groupby
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from axformer_lightning import load_pretrained, predict

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
CODE = re.compile(r"```python\n(.*?)```(?:\n+```\n(.*?)```)?", re.S)  # and, where it is shown, what it prints
COMMANDS = [line for block in re.findall(r"```bash\n(.*?)```", PAGE, re.S) for line in block.splitlines()]
WORDS = [f"w{i}" for i in range(40)]


def write_finetuned(directory):
    """A tiny classifier and its tokenizer."""
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    vocabulary = [*names.values(), *WORDS]
    plain = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    plain.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    PreTrainedTokenizerFast(tokenizer_object=plain, model_input_names=inputs, **names).save_pretrained(directory)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32}
    config = BertConfig(vocab_size=len(vocabulary), max_position_embeddings=32, initializer_range=0.3, **sizes)
    BertForSequenceClassification(config).save_pretrained(directory)


def write_mrpc(directory, **sizes):
    directory.mkdir(parents=True)
    rng = random.Random(0)
    for part, size in sizes.items():
        rows = [["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"]]
        for i in range(size):
            texts = (" ".join(rng.choices(WORDS, k=rng.randint(2, 6))) for _ in range(2))
            rows.append([str(i % 2), f"1{i}", f"2{i}", *texts])
        text = "".join("\t".join(row) + "\n" for row in rows)
        (directory / f"{part}.tsv").write_text(text, encoding="utf-8")


def shapes(lines):
    """The first words of lines, as numbers and what they decide are of the model; a line for each layer counts once."""
    return [first for first, _ in groupby(re.sub(r"[\d.]+", "0", line.split()[0]) for line in lines)]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Run the Python of the page where `finetuned/` and `glue/` are tiny; return the directory."""
    directory = tmp_path_factory.mktemp("tutorial")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        write_finetuned("finetuned")
        write_mrpc(Path("glue", "MRPC"), train=80, dev=16)
        printed = []
        names = {"print": lambda *words: printed.append(" ".join(map(str, words)))}
        for code, shown in CODE.findall(PAGE):
            printed.clear()
            exec(code, names)
            assert not shown or shapes(printed) == shapes(shown.splitlines()), code
    return directory


def arguments(start):
    """What follows in the only command that begins like this."""
    (line,) = (line for line in COMMANDS if line.startswith(start))
    return shlex.split(line.removeprefix(start))


def test_the_page_makes_a_smaller_model_in_int8_and_a_file(served):
    plan = load_pretrained(served / "small").axformer_plan
    assert not plan.removes_nothing
    assert any(layer.int8 for layer in plan.layers)
    assert (served / "plan.png").read_bytes().startswith(b"\x89PNG")
    assert (served / "small.onnx").stat().st_size < (served / "dense.onnx").stat().st_size


def test_its_commands_answer_the_same(served, monkeypatch, capsys):
    monkeypatch.chdir(served)
    assert predict.main(arguments("python -m axformer_lightning.predict ")) is None
    predicted = json.loads(capsys.readouterr().out)
    flag, body, address = arguments("curl ")
    assert (flag, address) == ("-d", "localhost:8000")
    assert ask("docs/examples/serve.py", arguments("python docs/examples/serve.py "), body.encode()) == [predicted]


def ask(script, given, body):
    """Run the script with a port that is free, ask it once, and stop it."""
    spec = importlib.util.spec_from_file_location("serve", ROOT / script)
    serve = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(serve)
    servers, ready = [], threading.Event()

    class Server(serve.ThreadingHTTPServer):
        def serve_forever(self):
            servers.append(self)
            ready.set()
            super().serve_forever(poll_interval=0.05)

    serve.ThreadingHTTPServer = Server
    thread = threading.Thread(target=serve.main, args=(*given, 0))
    thread.start()
    assert ready.wait(60)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{servers[0].server_port}", body, timeout=30) as answer:
            return json.loads(answer.read())
    finally:
        servers[0].shutdown()
        thread.join()
        servers[0].server_close()
