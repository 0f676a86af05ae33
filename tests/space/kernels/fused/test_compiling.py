"""Every kernel compiles for an H100, and its shared memory fits, without one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("compile_for_hopper.py")
ROOT = Path(__file__).parents[4]


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("family", ["row_kernels", "scans", "attention", "linear_maps", "sizes_of_one"])
def test_a_family_compiles_for_hopper(family: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    found = subprocess.run(
        [sys.executable, str(PROGRAM), family],
        env={**environment, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=1700,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr[-2000:]
    assert found.stdout.count("shared") > 5
