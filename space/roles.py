"""What every parameter of a model is for, so that proxies never look at module classes."""

from dataclasses import dataclass
from typing import Literal, Protocol, get_args, runtime_checkable

Role = Literal[
    "embed", "pos", "mixer.in", "mixer.out", "mixer.state", "ffn.in", "ffn.gate", "ffn.out", "norm", "head"
]
ROLES: tuple[str, ...] = get_args(Role)


@dataclass(frozen=True, slots=True)
class ParameterRole:
    """Role of one parameter.

    `layer` counts from 0 and is None outside the blocks. `parts` are the row counts of the matrices that are
    fused in one weight, in order (query, key, value; gate, up; ...), and () when the weight is one matrix.
    """

    role: Role
    layer: int | None = None
    parts: tuple[int, ...] = ()


@runtime_checkable
class HasRoles(Protocol):
    """A module that says what its own parameters are for; names are those of `named_parameters`."""

    def parameter_roles(self) -> dict[str, ParameterRole]: ...
