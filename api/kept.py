"""What was computed from a job's rows, kept until something happens in it: many readers cost one reading.

A value belongs to the job's version and the number of its newest event, so it is never out of date. Of
several readers at once who want the same value one computes it and the others wait.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from sqlalchemy.orm import Session

from search.records import JobRecord
from search.storage import events

MAX_VALUES = 256
T = TypeVar("T")

_lock = threading.Lock()
_values: OrderedDict[Hashable, Any] = OrderedDict()
_flights: dict[Hashable, threading.Lock] = {}


def kept(session: Session, job: JobRecord, what: Hashable, compute: Callable[[], T]) -> T:
    """The value `what` of the job as `session` sees it. Nobody may change what comes back.

    Of the same value of an older state nothing is kept; of too many, the least recently used are forgotten.
    """
    place, state = (job.id, what), (job.version, events.last_seq(session, job.id))
    key = (place, state)
    with _lock:
        known = _values.get(place)
        if known is not None and known[0] == state:
            _values.move_to_end(place)
            value: T = known[1]
            return value
        flight = _flights.setdefault(key, threading.Lock())
    try:
        with flight:
            with _lock:
                known = _values.get(place)
            if known is not None and known[0] == state:
                found: T = known[1]
                return found
            made = compute()
            with _lock:
                _values[place] = (state, made)
                _values.move_to_end(place)
                while len(_values) > MAX_VALUES:
                    _values.popitem(last=False)
            return made
    finally:
        with _lock:
            _flights.pop(key, None)
