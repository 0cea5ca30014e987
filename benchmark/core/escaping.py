"""Escapes texts from outside: for a terminal, a spreadsheet, Markdown.

Names of domains, errors of plugins and whole records come from elsewhere. A text may hold what a terminal takes for a
command, a spreadsheet for a formula, or Markdown for the end of a cell; it is escaped here. `from_csv` removes the mark
of a CSV cell.
"""

import re

ODD = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff\ufff9-\ufffb]"
)
"""Characters that steer a terminal or turn the direction of writing, and halves of characters."""
FORMULA = re.compile(r"[\s']*[=+\-@\uff1d\uff0b\uff0d\uff20]|['\t\r\n]")
"""How a cell begins that a spreadsheet would calculate, or that begins with our own mark."""


def plain(text: str) -> str:
    r"""A text without control characters but tab and line feed: an escape is shown as \x1b."""
    return ODD.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), text)


def one_line(text: object) -> str:
    r"""A text, path or error as `plain` shows it, with tabs and line feeds written out too."""
    return plain(str(text)).replace("\t", "\\t").replace("\n", "\\n")


def to_csv(text: str) -> str:
    """A cell of a CSV file: plain, with an apostrophe in front where a spreadsheet would take it for a formula."""
    shown = plain(text)
    return f"'{shown}" if FORMULA.match(shown) else shown


def from_csv(cell: str) -> str:
    """The text of a cell without the apostrophe that `to_csv` has put in front."""
    return cell.removeprefix("'")


def markdown(text: str) -> str:
    """A cell, a heading or an item of Markdown: one line, without bars and tags."""
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", one_line(text).replace("|", "&#124;"))
