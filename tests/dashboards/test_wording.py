import doctest
import typing
from types import ModuleType

import pytest

from dashboards import architecture_words, drawing, points, strip, summary, wording
from search.records import FINAL_JOB_STATES, JOB_TRANSITIONS, JobReason, JobState, Origin, TrialReason

MODULES = (architecture_words, drawing, points, strip, summary, wording)


@pytest.mark.parametrize("module", MODULES, ids=lambda m: m.__name__)
def test_examples_in_docstrings_hold(module: ModuleType) -> None:
    assert doctest.testmod(module).failed == 0


def test_every_word_of_the_records_has_its_meaning() -> None:
    assert set(wording.STATE_MEANING) == set(typing.get_args(JobState))
    assert set(wording.ORIGIN_WORDS) == set(typing.get_args(Origin))
    assert set(typing.get_args(JobReason)) | set(typing.get_args(TrialReason)) <= set(wording.REASON_WORDS)


def test_actions_are_those_the_states_allow() -> None:
    assert wording.actions("running") == ("pause", "stop", "cancel")
    assert wording.actions("queued") == ("cancel",)
    assert wording.actions("stopping") == ("cancel",)
    for state in FINAL_JOB_STATES:
        assert wording.actions(state) == ()
    for state, reachable in JOB_TRANSITIONS.items():
        assert all(wording.ACTION_TARGET[action] in reachable for action in wording.actions(state))


def test_numbers_are_shown_in_the_unit_a_person_reads() -> None:
    assert wording.shown("memory_bytes", 3 * 2**20) == "3 MiB"
    assert wording.shown("bits_per_byte", 2.34567) == "2.346 bits"
    assert wording.shown("w_pca", 12.0) == "12"


def test_markup_in_figure_text_is_escaped() -> None:
    assert wording.plain("<a href='x'>b</a>") == "&lt;a href='x'&gt;b&lt;/a&gt;"
