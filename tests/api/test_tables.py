"""CSV that a spreadsheet cannot run."""

import csv
import io

from api.tables import csv_text


def test_a15_formulas_are_disarmed_and_numbers_stay_numbers() -> None:
    hostile = ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "a,b", 'a"b', "plain"]
    (row,) = list(csv.reader(io.StringIO(csv_text(["a"], [[*hostile, -1.5, None]]), newline="")))[1:]
    assert row == ["'=1+1", "'+1", "'-1", "'@x", "'\tx", "'\rx", "a,b", 'a"b', "plain", "-1.5", ""]
