import re
from pathlib import Path

import pytest
from torch.utils.data import DataLoader

from axformer_lightning import load_pretrained

README = Path(__file__).parents[2] / "README.md"
PRINTED = re.compile(r"^\w+ of layer \d+: loss \d\.\d{4} -> \d\.\d{4}$", re.M)


@pytest.mark.always
@pytest.mark.filterwarnings("ignore:Starting from v1.9.0")
def test_the_lines_for_an_existing_project_run_and_print_what_was_accepted(
    module, search_loader, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", README.read_text(), re.S) if "Trainer" in block]
    train = DataLoader(search_loader.dataset, batch_size=16, shuffle=True)
    names = {"module": module, "search_loader": search_loader, "train_loader": train, "val_loader": search_loader}
    exec(code, names)
    accepted = [decision for decision in names["callbacks"][1].plan.decisions if decision.accepted]
    assert len(PRINTED.findall(capsys.readouterr().out)) == len(accepted)
    assert PRINTED.search(README.read_text())
    assert names["callbacks"][1].rounds_done == 1
    assert load_pretrained("smaller-model").axformer_plan == module.anything.axformer_plan
