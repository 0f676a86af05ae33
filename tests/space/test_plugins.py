"""A mixer from an installed package: one file and an entry point, and it is everywhere."""

import importlib
import json
import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import torch

from space import plugins
from space.choice import MixerChoice, Padding, Surroundings
from space.errors import InvalidInputError
from space.mixers import MIXERS, PoolConfig
from space.positions import NonePositionConfig

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_mixer"
PROGRAM = """
import json, random, torch
from space.architecture import Architecture, BytesInterface, parse_architecture
from space.batch_costs import CostTable
from space.choice import Surroundings
from space.costs import costs
from space.mixers import MIXERS
from space.model import build_model
from space.sampling import sample
from space.search_space import load_preset
from running_mean import running_mean_reference

space = load_preset("decoder-small").with_domains({"mixer": ["running_mean", "softmax"], "half_life": [2, 8]})
space = space.for_interface(BytesInterface(context_length=16, outputs=256))
rng = random.Random(0)
drawn = [sample(space, rng) for _ in range(40)]
for one in drawn:
    assert parse_architecture(one.canonical_json).id == one.id
    assert space.decode(space.encode(one)).id == one.id
    assert sum(p.numel() for p in build_model(one).parameters()) == costs(one).params
genes = {"layer0.mixer": "running_mean", "layer1.mixer": "running_mean"}
model = build_model(space.decode(genes), seed=0).eval()
tokens = torch.randint(0, 256, (2, 11))
steps, states = model.prefill(tokens)
mixer = model.blocks[0].mixer.double()
x = torch.randn(2, 9, 64, dtype=torch.float64)
slow = mixer.out(running_mean_reference(mixer.values(x), mixer.decay))
print(json.dumps({
    "in_schema": "RunningMeanConfig" in json.dumps(Architecture.model_json_schema()),
    "kinds": sorted({layer.mixer.kind for one in drawn for layer in one.layers}),
    "decodes": bool(torch.allclose(steps, model.float()(tokens), atol=1e-5)),
    "is_its_reference": bool(torch.allclose(mixer.double()(x), slow, atol=1e-12)),
    "macs": CostTable().costs(drawn)["macs"].tolist() == [costs(one).macs for one in drawn],
}))
"""


@pytest.mark.slow
def test_a_mixer_of_another_package_is_in_schema_sampling_costs_and_documentation(tmp_path: Path) -> None:
    info = tmp_path / "paretoformer_running_mean-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: paretoformer-running-mean\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text(
        "[paretoformer.mixers]\nrunning_mean = running_mean:RunningMeanConfig\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(EXAMPLE)])}

    def run(*command: str) -> str:
        done = subprocess.run(list(command), env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    program = str(Path(sys.executable).with_name("paretoformer"))
    found = json.loads(run(sys.executable, "-c", PROGRAM).splitlines()[-1])
    assert found == {
        "in_schema": True, "kinds": ["running_mean", "softmax"], "decodes": True,
        "is_its_reference": True, "macs": True,
    }  # fmt: skip
    choices = {one["kind"]: one for one in json.loads(run(program, "space", "choices", "--json"))}
    assert choices["running_mean"]["package"] == "running_mean"
    assert choices["running_mean"]["genes"] == {"half_life": "Tokens after which a value counts half."}
    assert "Running mean" in choices["running_mean"]["about"]
    shown = run(program, "space", "show", "decoder-small", "--set", "mixer=[running_mean]", "--json")
    assert "half_life" in json.loads(shown)["domains"]


def test_the_example_counts_over_a_long_sequence_and_on_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    example = importlib.import_module("running_mean")
    at = Surroundings(
        d_model=8, context_length=1200, num_layers=1, causal=True, position=NonePositionConfig()
    )
    for dtype, tokens in ((torch.float32, 300), (torch.float64, 1200)):
        mixer = example.RunningMeanConfig(half_life=1).build(at).to(dtype)
        x = torch.randn(2, tokens, 8, dtype=dtype, generator=torch.Generator().manual_seed(0))
        slow = mixer.out(example.running_mean_reference(mixer.values(x), mixer.decay))
        torch.testing.assert_close(mixer(x), slow)
        mask = torch.arange(tokens) < torch.tensor([[tokens], [tokens - 5]])
        torch.testing.assert_close(mixer(x, mask)[0], slow[0])
        assert torch.isfinite(mixer(x, mask)).all()
    assert mixer.to("meta").init_state(2)["mean"].device.type == "meta"


class _Taken(PoolConfig):
    """Has the tag of another mixer."""


class _Untagged(PoolConfig):
    kind: str = "untagged"  # type: ignore[assignment]


class _NoDefault(PoolConfig):
    kind: Literal["no_default"]  # type: ignore[assignment]


class _Unlike(PoolConfig):
    kind: Literal["one", "other"] = "one"  # type: ignore[assignment]


class _NoFacts(MixerChoice):
    causal: ClassVar[bool] = True
    bidirectional: ClassVar[bool] = True
    padding: ClassVar[Padding] = "exact"

    kind: Literal["no_facts"] = "no_facts"


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (_Taken, "the tag 'pool' is taken by space.mixers.pool"),
        (dict, "must be a subclass"),
        (_Untagged, r'_Untagged has no tag of its own; write kind: Literal\["untagged"\] = "untagged"'),
        (_NoDefault, r'_NoDefault has no tag of its own; write kind: Literal\["my_choice"\] = "my_choice"'),
        (_Unlike, "_Unlike has no tag of its own"),
        (MixerChoice, "MixerChoice has no tag of its own"),
        (_NoFacts, "_NoFacts does not say has_probabilities, order_aware, positions; "),
    ],
)
def test_an_entry_point_that_cannot_be_is_refused(
    monkeypatch: pytest.MonkeyPatch, target: Any, said: str
) -> None:
    class Point(EntryPoint):
        def load(self) -> Any:
            return target

    point = Point("broken", "somewhere:Config", "paretoformer.mixers")
    monkeypatch.setattr(plugins, "entry_points", lambda **_: [point])
    with pytest.raises(InvalidInputError, match=said):
        plugins.family("mixers", MixerChoice, tuple(MIXERS.values()))


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (None, "cannot be loaded: ModuleNotFoundError: No module named 'broken_plugin'"),
        ("", "cannot be loaded: AttributeError"),
        ("1 / 0", "cannot be loaded: ZeroDivisionError: division by zero"),
        ("raise ValueError", "cannot be loaded: ValueError; repair or uninstall"),
    ],
)
def test_an_entry_point_that_fails_to_load_names_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str | None, said: str
) -> None:
    info = tmp_path / "broken_package-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-package\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[paretoformer.mixers]\nbroken = broken_plugin:Config\n")
    if source is not None:
        (tmp_path / "broken_plugin.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "broken_plugin", raising=False)
    with pytest.raises(InvalidInputError) as error:
        plugins.family("mixers", MixerChoice, tuple(MIXERS.values()))
    sys.modules.pop("broken_plugin", None)
    assert said in str(error.value)
    where = "entry point 'broken' of paretoformer.mixers, broken_plugin:Config of package broken-package"
    assert where in str(error.value)
