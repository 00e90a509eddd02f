"""The script that asks the real torch-directml: what it says of the stand-in, and that it calls a fault a fault."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Tuple

import pytest
from directml_standin import adapters
from directml_standin.options import Adapter

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "check_torch_directml.py"


def check(environment: Dict[str, str]) -> Tuple[int, str]:
    done = subprocess.run(
        [sys.executable, str(SCRIPT)],
        env={**environment, "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({}, ["'adapters': 1", "auto:              directml:0", "'difference': "]),
        ({"adapters": (Adapter(name="Microsoft Basic Render Driver"),)}, ["auto:              cpu", "'difference': "]),
        ({"adapters": ()}, ["finds no DirectX 12 adapter", "auto:              cpu"]),
    ],
    ids=["RX 580", "WARP", "no adapter"],
)
def test_what_is_promised(directml_env: Any, options: Dict[str, Any], parts: list) -> None:
    status, said = check(directml_env(ends="kill", **options))
    assert status == 0, said
    assert said.splitlines()[-1].endswith("as promised")
    for part in parts:
        assert part in said


def test_a_library_that_is_missing_is_a_fault_on_windows_alone(directml_env: Any) -> None:
    status, said = check(directml_env(ends="kill", import_error="libd3d12"))
    assert "OSError: libd3d12.so" in said and "auto:              cpu" in said
    if sys.platform == "win32":
        assert status == 1 and "on the system that it is made for" in said.splitlines()[-1]
    else:
        assert status == 0 and said.splitlines()[-1].endswith("as promised")


@pytest.mark.parametrize("options", [{"lost_after": 3}, {"adapters": adapters(8_100_000)}], ids=["lost", "no memory"])
def test_a_card_that_cannot_work_is_a_fault(directml_env: Any, options: Dict[str, Any]) -> None:
    status, said = check(directml_env(ends="kill", **options))
    assert status == 1 and "a small network on the adapter" in said.splitlines()[-1]


def test_without_the_package_it_says_what_to_install() -> None:
    import importlib.util

    if importlib.util.find_spec("torch_directml") is not None:
        pytest.skip("torch-directml is installed")
    import os

    status, said = check(dict(os.environ))
    assert status == 2 and "requirements-directml.txt" in said
