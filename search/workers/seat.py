"""A job's place among those that share the workers, as its executor sees it."""

import uuid
from collections.abc import Callable

from .shares import Shares


class Seat:
    """Asks for slots on behalf of one job and says when it wants none. Used by one thread."""

    def __init__(
        self,
        shares: Shares,
        job_id: str = "",
        *,
        tenant: str = "",
        position: int = 0,
        free: Callable[[], int],
    ) -> None:
        self._shares = shares
        self._job_id = f"{job_id}/{uuid.uuid4().hex}"  # a job that is taken up again gets a new seat
        self._free = free
        self._is_offered = False
        self._was_refused = False
        shares.join(self._job_id, tenant, position)

    def may_take(self) -> bool:
        """Whether a slot is free and this job's turn has come."""
        self._is_offered = self._shares.may_take(self._job_id, self._free())
        self._was_refused = not self._is_offered
        return self._is_offered

    def take(self) -> None:
        self._shares.take(self._job_id)
        self._is_offered = False

    def give_back(self) -> None:
        self._shares.give_back(self._job_id)

    def settle(self) -> None:
        """Once per round: a job that left an offered slot, or did not ask, wants none."""
        if not self._was_refused:
            self._shares.rest(self._job_id)
        self._is_offered = self._was_refused = False

    def leave(self) -> None:
        self._shares.leave(self._job_id)
