"""The cases of the kernel benchmark agree with their plain forms; nothing is timed without a GPU."""

import sys

import pytest
import torch

from benchmarks import kernels


@pytest.mark.slow
def test_every_case_agrees_with_its_plain_form(capsys: pytest.CaptureFixture[str]) -> None:
    kernels.check(None)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 21
    assert {line.split(",")[0] for line in lines} >= {
        "rms_norm",
        "faded_sums vector",
        "faded_step scalar",
        "expert_linear",
    }


def test_what_does_not_run_says_why_and_stops_nothing() -> None:
    def fails() -> dict[str, float]:
        raise ModuleNotFoundError("fla")

    assert kernels.tried(fails) == {"absent": "ModuleNotFoundError: fla"}
    assert kernels.tried(lambda: {"median_s": 1.0}) == {"median_s": 1.0}


@pytest.mark.skipif(torch.cuda.is_available(), reason="would time everything")
def test_without_a_gpu_it_says_so_and_ends_with_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["kernels"])
    with pytest.raises(SystemExit) as ended:
        kernels.main()
    assert ended.value.code == 2
    assert "CUDA" in capsys.readouterr().err
