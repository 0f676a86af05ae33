"""`/v1/spaces`, `/tasks`, `/proxies`, `/strategies`, `/devices`: what a job may name."""

import typing
from typing import Any

from fastapi import APIRouter
from typing_extensions import TypedDict

from evaluators.proxies import PROXIES
from evaluators.training import TASK_KINDS, tasks
from search.job import StrategySpec
from search.objectives import OBJECTIVES
from space.errors import NotFoundError, nearest
from space.search_space import preset_names

from ..deps import DatabaseDep, ServicesDep, TenantDep
from ..devices import device_answers
from ..spaces import preset_space, space_answer, space_summaries
from ..submission import dataset_names

router = APIRouter(prefix="/v1", tags=["catalogue"])


class TaskCatalogue(TypedDict):
    """Kinds of tasks, data sets with their kind (null: any that fits), and objectives."""

    kinds: list[str]
    datasets: dict[str, str | None]
    objectives: list[dict[str, Any]]


@router.get("/spaces")
def list_spaces(_: TenantDep) -> list[dict[str, Any]]:
    """The presets with their sizes on a built-in task."""
    return space_summaries()


@router.get("/spaces/{name}")
def read_space(name: str, _: TenantDep) -> dict[str, Any]:
    """A preset with the values of every gene."""
    if name not in preset_names():
        raise NotFoundError(f"space '{name[:100]}' does not exist; {nearest(name, preset_names())}")
    return space_answer(preset_space(name))


@router.get("/tasks")
def read_tasks(held: ServicesDep, _: TenantDep) -> TaskCatalogue:
    """What can be learned, on what, judged by what."""
    own: dict[str, str | None] = dict.fromkeys(dataset_names(held.settings.datasets))
    fields = ("key", "label", "unit", "source", "maximise")
    return {
        "kinds": list(TASK_KINDS),
        "datasets": {**own, **{name: task.kind for name, task in tasks().items()}},
        "objectives": [{name: getattr(one, name) for name in fields} for one in OBJECTIVES.values()],
    }


@router.get("/proxies")
def list_proxies(_: TenantDep) -> list[dict[str, Any]]:
    """The training-free proxies: id, version, which way is better, the passes they need, what they are."""
    return [
        {
            "id": proxy.id,
            "version": proxy.version,
            "direction": proxy.direction,
            "groups": sorted(proxy.groups),
            "description": proxy.summary,
        }
        for proxy in PROXIES
    ]


@router.get("/strategies")
def list_strategies(_: TenantDep) -> list[str]:
    """What proposes the next architecture."""
    return list(typing.get_args(StrategySpec.model_fields["kind"].annotation))


@router.get("/devices")
def list_devices(database: DatabaseDep, _: TenantDep) -> list[dict[str, Any]]:
    """This machine, those the database knows (kind `measured`), and the device table (kind `analytic`)."""
    with database.read() as session:
        return device_answers(session)
