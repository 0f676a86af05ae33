"""Tasks by name: `tasks`, `BUILT_IN`, and the recipe that trains a task's data, `recipe_of`."""

from .registry import BUILT_IN, TASKS, own_tasks, prepared_task, recipe_of, tasks

__all__ = ["BUILT_IN", "TASKS", "own_tasks", "prepared_task", "recipe_of", "tasks"]
