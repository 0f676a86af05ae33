"""Python text: lines brought to one width, spans of a source replaced.

A logical line that is too long is opened at its longest pair of brackets; what stands inside goes on one line
where it fits, else on one line per item.
"""

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass

LINE = 110
OPENING, CLOSING = "([{", ")]}"


@dataclass(frozen=True, slots=True)
class Edit:
    """A span of a node, as (line, column) from (1, 0), and what stands there instead."""

    start: tuple[int, int]
    end: tuple[int, int]
    text: str


class SourceText:
    """The text of a file by the positions of its syntax tree. ASCII only, so that columns are characters."""

    def __init__(self, text: str) -> None:
        self.lines = text.splitlines()

    def span(self, node: ast.AST) -> tuple[tuple[int, int], tuple[int, int]]:
        place = [getattr(node, name) for name in ("lineno", "col_offset", "end_lineno", "end_col_offset")]
        return (place[0], place[1]), (place[2], place[3])

    def of(self, node: ast.AST, edits: Sequence[Edit] = ()) -> str:
        """The text of a node, edits inside it applied; they do not overlap."""
        start, end = self.span(node)
        pieces, at = [], start
        for edit in sorted(edits, key=lambda edit: edit.start):
            pieces += [self._between(at, edit.start), edit.text]
            at = edit.end
        return "".join([*pieces, self._between(at, end)])

    def comments_above(self, node: ast.stmt) -> list[str]:
        """The comment lines right above a statement, without their indentation."""
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
        found: list[str] = []
        for line in reversed(self.lines[: first - 1]):
            if not line.strip().startswith("#"):
                break
            found.insert(0, line.strip())
        return found

    def comment_behind(self, node: ast.stmt) -> str:
        """A comment on the last line of a statement, but for those that speak to tools."""
        (_, _), (line, column) = self.span(node)
        rest = self.lines[line - 1][column:].strip()
        return "" if re.match(r"#\s*(noqa|type:|fmt:|pragma)", rest) or not rest.startswith("#") else rest

    def in_brackets(self, node: ast.AST) -> tuple[tuple[int, int], tuple[int, int]] | None:
        """The span of a node with the parentheses right around it, where these belong to no call."""
        (line, column), (last, end) = self.span(node)
        before, after = self.lines[line - 1][:column], self.lines[last - 1][end:]
        if not (before.endswith("(") and after.startswith(")")):
            return None
        if re.search(r"[\w)\]]\($", before):
            return None
        return (line, column - 1), (last, end + 1)

    def _between(self, start: tuple[int, int], end: tuple[int, int]) -> str:
        first, last = start[0] - 1, end[0] - 1
        if first == last:
            return self.lines[first][start[1] : end[1]]
        middle = self.lines[first + 1 : last]
        return "\n".join([self.lines[first][start[1] :], *middle, self.lines[last][: end[1]]])


def on_one_line(text: str) -> str:
    """A logical line without its breaks; text with comments or long strings stays as it is."""
    if "\n" not in text or "#" in text or '"""' in text or re.search(r'"\s*\n\s*f?"', text):
        return text
    joined = ""
    for line in (part.strip() for part in text.splitlines()):
        if not joined or joined[-1] in OPENING:
            joined += line
        elif line[:1] and line[0] in CLOSING:
            is_single = joined.endswith(",") and joined.count(",") == 1 and line[0] == ")"
            joined = (joined if is_single else joined.removesuffix(",")) + line
        elif line.startswith(".") and not line.startswith("..."):
            joined += line
        else:
            joined += f" {line}"
    return joined


def wrapped(code: str, indent: int, *, behind: int = 0) -> str:
    """A logical line, indented, in lines of at most 110 characters where brackets allow it.

    `behind`: characters that will follow it.
    """
    pad = " " * indent
    if "\n" in code or indent + len(code) + behind <= LINE:
        return pad + code
    pair = _longest_pair(code)
    if pair is None:
        return pad + code
    head, body, tail = code[: pair[0] + 1], code[pair[0] + 1 : pair[1]].strip(), code[pair[1] :]
    items = split_items(body)
    if indent + 4 + len(body) <= LINE and not body.endswith(","):
        inside = " " * (indent + 4) + body
    elif " for " in _outside(body):
        inside = _opened_generator(body, indent + 4)
    elif len(items) == 1 and body.endswith(","):
        inside = wrapped(items[0], indent + 4, behind=1) + ","
    elif len(items) == 1 and not body.startswith("*"):
        inside = wrapped(body, indent + 4)
    else:
        inside = "\n".join(wrapped(item, indent + 4, behind=1) + "," for item in items)
    return f"{pad}{head}\n{inside}\n{wrapped(tail, indent)}"


def split_items(body: str) -> list[str]:
    """What commas outside of brackets and strings separate."""
    items, begin = [], 0
    for place, depth in _depths(body):
        if body[place] == "," and depth == 0:
            items.append(body[begin:place].strip())
            begin = place + 1
    last = body[begin:].strip()
    return [*items, last] if last else items


def _opened_generator(body: str, indent: int) -> str:
    """`element`, `for ... in ...` and conditions on lines of their own."""
    outside = _outside(body)
    cuts = [found.start() for found in re.finditer(r"(?<= )(for|if) ", outside) if _is_clause(outside, found)]
    parts = [body[a:b].strip() for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    return "\n".join(wrapped(part, indent) for part in parts)


def _is_clause(outside: str, found: re.Match[str]) -> bool:
    """An `if` behind the first `for` is a condition; before it, it belongs to the element."""
    first = outside.find(" for ")
    return found.group(1) == "for" or found.start() > first > -1


def _outside(code: str) -> str:
    """The text with everything inside brackets and strings blanked."""
    kept = {place for place, depth in _depths(code) if depth == 0 and code[place] not in OPENING + CLOSING}
    return "".join(letter if place in kept else "_" for place, letter in enumerate(code))


def _longest_pair(code: str) -> tuple[int, int] | None:
    """Places of the outermost brackets with the most between them; none of an empty pair."""
    pairs, open_ = [], None
    for place, depth in _depths(code):
        if code[place] in OPENING and depth == 0:
            open_ = place
        elif code[place] in CLOSING and depth == 0 and open_ is not None:
            pairs.append((open_, place))
    pairs = [(a, b) for a, b in pairs if b > a + 1]
    return max(pairs, key=lambda pair: pair[1] - pair[0]) if pairs else None


def _depths(code: str) -> list[tuple[int, int]]:
    """(place, brackets open around it) of every character outside of strings; a bracket counts as outside
    of itself."""
    found, depth, place = [], 0, 0
    while place < len(code):
        letter = code[place]
        if letter in "\"'":
            place = _end_of_string(code, place)
            continue
        if letter in CLOSING:
            depth -= 1
        found.append((place, depth))
        if letter in OPENING:
            depth += 1
        place += 1
    return found


def _end_of_string(code: str, place: int) -> int:
    """The place behind a string literal."""
    quote = code[place]
    place += 1
    while place < len(code) and code[place] != quote:
        place += 2 if code[place] == "\\" else 1
    return place + 1
