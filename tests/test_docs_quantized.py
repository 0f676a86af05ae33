"""The table of quantized files in docs/numbers.md is that of the benchmark's result.

`python -P tests/test_docs_quantized.py` rewrites it.
"""

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "numbers.md"
RESULT = ROOT / "benchmarks" / "results" / "export_quantized.json"
HEADER = "| file | loss, bits per byte | speed-up | size | faster than fp32 |"


def table() -> str:
    """Median and extremes over the models of the benchmark."""
    result = json.loads(RESULT.read_text(encoding="utf-8"))
    lines = [HEADER, "|---|---|---|---|---|"]
    for name, row in result["summary"].items():
        loss, speedup, size = (row[key] for key in ("loss_bits_per_byte", "speedup", "size"))
        cells = (
            f"`{name}`",
            f"{loss['median']:.4f} ({loss['lowest']:.4f} to {loss['highest']:.4f})",
            f"{speedup['median']:.2f} ({speedup['lowest']:.2f} to {speedup['highest']:.2f})",
            f"{size['median']:.2f} ({size['lowest']:.2f} to {size['highest']:.2f})",
            f"{row['faster']} of {row['models']}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def written() -> str:
    found = re.search(rf"^{re.escape(HEADER)}\n(?:\|.*\n)*", PAGE.read_text(encoding="utf-8"), re.M)
    assert found, "docs/numbers.md has no table of quantized files"
    return found[0]


def test_the_table_of_quantized_files_is_that_of_the_benchmark() -> None:
    assert written() == table()


if __name__ == "__main__":
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(page.replace(written(), table()), encoding="utf-8")
