"""The program that an artifact's README prints runs where there is neither torch nor this package."""

import re
import subprocess
import sys

import numpy as np
import pytest
import torch

from axformer_lightning import export_model
from tests.exporting.test_predict import saved, tokenizer  # noqa: F401


@pytest.mark.exhaustive
def test_the_program_in_the_readme_runs_with_onnxruntime_and_tokenizers_alone(saved, tmp_path):  # noqa: F811
    model, directory = saved
    export_model(directory, tmp_path / "model.onnx")
    programs = re.findall(r"```python\n(.*?)```", (directory / "README.md").read_text(), re.DOTALL)
    (program,) = (text for text in programs if "onnxruntime" in text)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "onnxruntime", "tokenizers"], check=True)
    assert subprocess.run([python, "-c", "import torch"], capture_output=True, check=False).returncode != 0
    program = program.replace('"a text"', '"w1 w2 w3"')
    ran = subprocess.run([python, "-I", "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    with torch.no_grad():
        expected = model(torch.tensor([[2, 5, 6, 7, 3]])).logits.numpy()
    got = [float(number) for number in re.findall(r"-?\d+\.\d+(?:e-?\d+)?", ran.stdout)]
    np.testing.assert_allclose(got, expected[0], atol=1e-4)
