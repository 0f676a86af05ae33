import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.storage.stored_json import parse_json, to_json

PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
ANY_TEXT = st.text(st.characters())  # halves of surrogate pairs too: a file's name in a message
DATA = st.recursive(
    PLAIN | ANY_TEXT, lambda inner: st.lists(inner) | st.dictionaries(ANY_TEXT, inner), max_leaves=20
)


@given(DATA)
def test_what_was_stored_is_read_as_the_standard_library_reads_it(data: object) -> None:
    stored = to_json(data)
    for read in (parse_json(stored), parse_json(stored.encode())):
        assert read == json.loads(stored) == data
        assert repr(read) == repr(json.loads(stored))  # 1, 1.0 and True are equal


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_what_is_not_json_is_not_stored(number: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        to_json({"value": number})


@pytest.mark.parametrize("damaged", ["", "{", '{"a": 1}}', "[1,]"])
def test_damage_is_not_read(damaged: str) -> None:
    with pytest.raises(ValueError, match=r"Expecting|Extra data|Illegal"):
        parse_json(damaged)
