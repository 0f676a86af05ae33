"""A mixer from an installed package: one file and an entry point, and it is everywhere."""

import json
import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from space import plugins
from space.choice import MixerChoice
from space.errors import InvalidInputError
from space.mixers import MIXERS, PoolConfig

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


class _Taken(PoolConfig):
    """Has the tag of another mixer."""


@pytest.mark.parametrize(
    ("target", "said"),
    [(_Taken, "the tag 'pool' is taken by space.mixers.pool"), (dict, "must be a subclass")],
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
