"""`paretoformer space ... --set gene=values`: mistakes are told in one message."""

import json

import pytest
from typer.testing import CliRunner, Result

from api.cli import app


def sample(*overrides: str) -> Result:
    options = [part for text in overrides for part in ("--set", text)]
    return CliRunner().invoke(app, ["space", "sample", "decoder-small", "--json", *options])


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["d_model=[32]", " d_model =[64]"], "--set names gene 'd_model' twice; write all of its values"),
        (["=3"], "--set '=3' names no gene; write gene=values, for example d_model=[32,64]"),
        (["d_model="], "gene 'd_model' needs a value or a list of values, as in d_model=[32,64]"),
        (["d_model=null"], "needs a value or a list of values"),
        (["d_model={a: 1}"], "needs a value or a list of values"),
        (["d_model"], "--set 'd_model' is not gene=values"),
    ],
)
def test_a_wrong_override_says_what_is_wrong(overrides: list[str], said: str) -> None:
    result = sample(*overrides)
    assert result.exit_code == 2, result.output
    assert said in " ".join(result.stderr.split())


def test_overrides_of_two_genes_and_of_a_single_value_hold() -> None:
    found = json.loads(sample("d_model=32", "num_layers=[1]").stdout)
    assert (found["d_model"], len(found["layers"])) == (32, 1)
