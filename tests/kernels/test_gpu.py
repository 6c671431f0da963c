"""The kernel for GPUs: in Triton's interpreter, compiled for GPUs that are not here, and on one where there is one."""

import logging
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch._subclasses import FakeTensorMode

from axformer_lightning import kernels
from axformer_lightning.anatomy import HardAttention, LayerPlan
from axformer_lightning.hard_attention import set_hard_attention_
from axformer_lightning.kernels import library

HERE = Path(__file__).parent
needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="no Triton; docs/testing.md says how to get it")
needs_gpu = pytest.mark.skipif(
    not (torch.cuda.is_available() and kernels.available("cuda")), reason="no GPU, or no Triton"
)


@needs_triton
@pytest.mark.exhaustive
def test_in_the_interpreter_it_has_the_properties_of_the_one_in_cpp():
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-n",
        "0",
        "-k",
        "interpreter",
        str(HERE / "test_hard_attention.py"),
    ]
    env = os.environ | {"TRITON_INTERPRET": "1"}
    ran = subprocess.run(command, capture_output=True, text=True, env=env, cwd=HERE.parents[1], check=False)
    assert ran.returncode == 0, ran.stdout
    assert int(ran.stdout.splitlines()[-1].split(" passed")[0]) >= 20


@pytest.fixture
def compiled(tmp_path, monkeypatch):
    """What launches become: a list of kernels that are compiled for `capability`, 80 at first, and not launched."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver

    from axformer_lightning.kernels import gpu

    class Driver:
        capability = 80

        def get_current_device(self):
            return self.capability  # kernels are kept by device

        def get_current_stream(self, device):
            return 0

        def get_current_target(self):
            return GPUTarget("cuda", self.capability, 32)

    class Launches(list):
        target = Driver()

        def __getitem__(self, grid):
            return lambda *args, **kwargs: self.append(kernel.warmup(*args, grid=grid, **kwargs))

    kernel, launches = gpu._attend, Launches()
    monkeypatch.setattr(gpu, "_attend", launches)
    monkeypatch.setattr(driver, "_active", launches.target)
    return launches


@needs_triton
@pytest.mark.exhaustive
@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="nothing is compiled for the interpreter")
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize(
    ("shape", "dtype", "mask"),
    [
        ((2, 12, 128, 128, 32), torch.float32, torch.ones(2, 1, 1, 128, dtype=torch.bool)),
        ((1, 4, 20, 1024, 64), torch.bfloat16, torch.zeros(1024)),
        ((1, 4, 20, 500, 256), torch.float32, None),
        ((1, 1, 1, 1, 3), torch.float16, None),  # Triton takes a one for a constant
    ],
)
def test_it_compiles_into_the_shared_memory_of_any_gpu(compiled, capability, shape, dtype, mask):
    from axformer_lightning.kernels.gpu import attend

    compiled.target.capability = capability
    B, H, Q, K, D = shape
    query, key = (torch.zeros(B, length, H, D, dtype=dtype).transpose(1, 2) for length in (Q, K))
    attend(query, key, key, mask, 30, 0.5, renormalize=True)
    (kernel,) = compiled
    assert f".target sm_{capability}" in kernel.asm["ptx"]
    assert kernel.asm["cubin"][:4] == b"\x7fELF"
    assert kernel.metadata.shared <= 99 * 1024  # of compute capability 8.6 and 8.9, which have the least


@pytest.mark.parametrize(
    ("cuda", "capability", "said"),
    [(False, None, "Expected an NVIDIA GPU"), (True, (7, 5), "compute capability 8.0"), (True, (8, 0), "triton")],
)
def test_where_it_cannot_run_one_line_says_so(monkeypatch, caplog, cuda, capability, said):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "axformer_lightning.kernels.gpu", raising=False)
    library._loaded.cache_clear()
    try:
        with caplog.at_level(logging.INFO, "axformer_lightning"):
            assert not kernels.available("cuda")
            assert not kernels.available("cuda")
    finally:
        library._loaded.cache_clear()
    (line,) = caplog.messages
    assert said in line


def test_other_devices_have_none_and_nothing_is_said(caplog):
    assert not kernels.available("mps")
    assert not caplog.messages


@pytest.mark.parametrize(
    ("device", "dtype", "keys", "width", "expected"),
    [
        ("cpu", torch.float32, 5000, 300, True),
        ("cpu", torch.bfloat16, 9, 8, False),
        ("cuda", torch.float32, 1024, 256, True),
        ("cuda", torch.bfloat16, 9, 8, True),
        ("cuda", torch.float64, 9, 8, False),
        ("cuda", torch.float32, 1025, 8, False),
        ("cuda", torch.float32, 9, 257, False),
        ("mps", torch.float32, 9, 8, False),
    ],
)
def test_what_a_kernel_takes(device, dtype, keys, width, expected):
    with FakeTensorMode():
        query, key = (torch.empty(1, 2, length, width, dtype=dtype, device=device) for length in (4, keys))
        assert kernels.can_attend(query, key, key) == expected
        assert not kernels.can_attend(query, key.to("meta"), key)
        assert not kernels.can_attend(query, key, key.to(torch.int8))


@needs_gpu
@pytest.mark.parametrize("family", ["bert", "modernbert"], indirect=True)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_on_a_gpu_the_logits_are_those_without_it(tiny, family, batch, logits, count_calls, dtype):
    model = tiny.model(family, "sdpa").to("cuda")
    batch = {name: x.cuda() for name, x in batch.items()}
    set_hard_attention_(model, [LayerPlan(hard_attention=HardAttention(3))] * 3)
    with kernels.switched_off():
        expected = logits(model, batch)
    calls = count_calls("hard_attention")
    if dtype == torch.float32:
        torch.testing.assert_close(logits(model, batch), expected, rtol=1e-3, atol=1e-3)
    else:  # other keys may be chosen
        assert logits(model.to(dtype), batch).isfinite().all()
    assert len(calls) == 3
