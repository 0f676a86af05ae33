"""What pages read of large jobs, for the next page or zoom: reading it again costs more than all the rest.

A job's event number grows with every change of a trial, so what is remembered under it is never old.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TypeVar, cast

from sqlalchemy.orm import Session

from search.records import JobRecord
from search.storage import events

MOST = 24
"""Of 100,000 trials the largest of them takes 3 MB."""

Value = TypeVar("Value")
_values: "OrderedDict[Hashable, object]" = OrderedDict()
_lock = threading.Lock()


def remembered(session: Session, job: JobRecord, what: Hashable, read: Callable[[], Value]) -> Value:
    """What `read` gives, or gave for the job as it stands. `what`: names it, and is never used for another
    type of value.
    """
    key = (job.id, job.stage, events.last_seq(session, job.id), what)
    with _lock:
        if key in _values:
            _values.move_to_end(key)
            return cast(Value, _values[key])
    found = read()
    with _lock:
        _values[key] = found
        while len(_values) > MOST:
            _values.popitem(last=False)
    return found
