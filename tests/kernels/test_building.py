"""Building: once, whatever runs at the same time; and what happens where it is not possible."""

import logging
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from ctypes import CDLL

import pytest
import torch

from axformer_lightning import kernels
from axformer_lightning.anatomy import HardAttention, LayerPlan
from axformer_lightning.hard_attention import set_hard_attention_
from axformer_lightning.kernels import building, library

needs_compiler = pytest.mark.skipif(not kernels.available(), reason="no C++ compiler, or it fails")


@pytest.fixture
def compiler(tmp_path, monkeypatch):
    """Makes a compiler of lines of shell; `$out` is what it is to write."""

    def make(*lines):
        path = tmp_path / "compiler"
        find_out = 'while [ $# -gt 1 ]; do [ "$1" = -o ] && out="$2"; shift; done'
        start = '[ "$1" = --version ] && echo 1 && exit'
        path.write_text("\n".join(["#!/bin/sh", start, find_out, *lines, ""]))
        path.chmod(0o755)
        monkeypatch.setenv("CXX", str(path))

    return make


@pytest.fixture(scope="module")
def real():
    """The library, from the cache directory of the user."""
    return kernels.build()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    directory = tmp_path / "cache" / "of axformer"
    monkeypatch.setenv("AXFORMER_CACHE", str(directory))
    return directory


@pytest.fixture
def afresh():
    """Let this process look for the library again, and forget what it found."""
    library._loaded.cache_clear()
    yield
    library._loaded.cache_clear()


@needs_compiler
def test_it_is_built_once(real, cache, compiler):
    compiler(f'cp "{real}" "$out"')
    path = kernels.build()
    assert [*cache.iterdir()] == [path]
    before = path.stat()  # its times of access may change
    assert kernels.build() == path
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert kernels.build(again=True) == path
    assert path.stat().st_ino != before.st_ino
    assert cache.stat().st_mode & 0o077 == 0


@needs_compiler
def test_another_compiler_processor_torch_or_source_is_another_library(cache, monkeypatch):
    keys = {building._key(["c++"]), building._key(["c++", "-g"])}
    for name, value in (("_processor", lambda: "flags: none"), ("FLAGS", ()), ("SOURCES", ())):
        with monkeypatch.context() as patch:
            patch.setattr(building, name, value)
            keys.add(building._key(["c++"]))
    monkeypatch.setattr(torch, "__version__", "0")
    keys.add(building._key(["c++"]))
    assert len(keys) == 6


@needs_compiler
def test_a_damaged_library_is_built_again(real, cache, compiler):
    compiler(f'cp "{real}" "$out"')
    path = kernels.build()
    path.write_bytes(b"no library")
    assert kernels.build() == path
    assert path.read_bytes() == real.read_bytes()


@needs_compiler
def test_processes_that_build_at_the_same_time_see_whole_libraries(real, cache, compiler):
    compiler('case "$out" in *.o) exit;; esac', f'head -c 999 "{real}" > "$out"', "sleep 0.2", f'cp "{real}" "$out"')
    with ThreadPoolExecutor(6) as pool:
        built = [pool.submit(kernels.build, again=n % 2 == 0) for n in range(6)]
        while not all(future.done() for future in built):
            for path in cache.glob("*.so"):
                CDLL(str(path))
        (path,) = {future.result() for future in built}
    assert [*cache.iterdir()] == [path]
    assert path.read_bytes() == real.read_bytes()


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        (["exit 3"], "Expected the compiler to succeed, got exit status 3 and 'nothing'"),
        (
            ["echo 'x.cpp:1: error: no such thing' >&2", "exit 1"],
            "got exit status 1 and 'x.cpp:1: error: no such thing'",
        ),
        (["exit 0"], "file too short"),
        (['echo nonsense > "$out"'], "invalid ELF header|file too short"),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="the texts are Linux's")
def test_a_compiler_that_fails_is_quoted_and_leaves_nothing(cache, compiler, lines, error):
    compiler(*lines)
    with pytest.raises(kernels.BuildError, match=error):
        kernels.build()
    assert [*cache.iterdir()] == []


def test_a_missing_compiler_is_named(cache, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler -O3")
    with pytest.raises(kernels.BuildError, match=r"Expected a C\+\+ compiler.*no-such-compiler.*variable CXX"):
        kernels.build()
    assert not cache.exists()


def test_a_command_of_a_compiler_that_cannot_be_split_is_named(cache, monkeypatch):
    monkeypatch.setenv("CXX", "g++ '")
    with pytest.raises(kernels.BuildError, match=r"in CXX, got \"g\+\+ '\": No closing quotation"):
        kernels.build()


def test_a_cache_directory_that_cannot_be_written_to_is_named(tmp_path, compiler, monkeypatch):
    compiler('touch "$out"')
    (tmp_path / "file").touch()
    monkeypatch.setenv("AXFORMER_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(kernels.BuildError, match=r"Expected a cache directory.*file/cache.*AXFORMER_CACHE"):
        kernels.build()


@pytest.mark.parametrize("family", ["bert"], indirect=True)
def test_without_a_kernel_models_attend_as_before_and_one_line_says_so(
    tiny, family, batch, logits, monkeypatch, caplog, cache, afresh
):
    monkeypatch.setenv("CXX", "no-such-compiler")
    model = tiny.model(family, "sdpa")
    set_hard_attention_(model, [LayerPlan(hard_attention=HardAttention(3))] * 3)
    with caplog.at_level(logging.INFO, "axformer_lightning"):
        without = logits(model, batch)
    (line,) = caplog.messages
    assert "no-such-compiler" in line
    with kernels.switched_off():
        assert torch.equal(logits(model, batch), without)
    with pytest.raises(RuntimeError, match=r"python -m axformer_lightning\.kernels build"):
        kernels.hard_attention(*torch.zeros(3, 1, 1, 4, 2), None, 1, 1.0, False)


def test_the_environment_switches_it_off_without_a_word(monkeypatch, caplog, afresh):
    monkeypatch.setenv("AXFORMER_KERNELS", "0")
    assert not kernels.available()
    assert not caplog.messages


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"AXFORMER_CACHE": "/a"}, "/a"),
        ({"XDG_CACHE_HOME": "/b"}, "/b/axformer_lightning"),
        ({}, "/h/.cache/axformer_lightning"),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="the places are Linux's")
def test_the_cache_directory_is_that_of_the_platform(monkeypatch, values, expected):
    for name in ("AXFORMER_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"HOME": "/h"} | values).items():
        monkeypatch.setenv(name, value)
    assert str(kernels.cache_directory()) == expected


@pytest.mark.skipif(sys.platform != "linux", reason="the places are Linux's")
def test_a_user_without_a_home_is_told_what_to_do(monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(building.Path, "home", no_home)
    for name in ("AXFORMER_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(kernels.BuildError, match=r"Expected a home directory.*AXFORMER_CACHE"):
        kernels.cache_directory()


@needs_compiler
@pytest.mark.exhaustive
def test_the_command_says_where_the_library_is_or_what_is_missing(cache):
    command = [sys.executable, "-W", "ignore", "-m", "axformer_lightning.kernels", "build"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert CDLL(ran.stdout.strip())
    ran = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"CXX": "none"}, check=False)
    assert ran.returncode == 1
    assert ran.stderr.startswith("Expected a C++ compiler")
