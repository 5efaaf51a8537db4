"""Tables of results as text and as HTML, for notebooks."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from drivetl.console.text import printable

Row = Sequence[object]


def text_table(columns: Sequence[str], rows: Sequence[Row]) -> str:
    """Aligned columns: the first to the left, the others to the right."""
    cells = [[printable(str(cell)) for cell in row] for row in (columns, *rows)]
    widths = [max(len(row[number]) for row in cells) for number in range(len(columns))]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in cells
    ]
    return "\n".join(line.rstrip() for line in lines)


def html_table(caption: str, columns: Sequence[str], rows: Sequence[Row]) -> Markup:
    """An HTML table; every text is escaped."""
    head = Markup("").join(Markup("<th>{}</th>").format(name) for name in columns)
    body = Markup("").join(
        Markup("<tr>{}</tr>").format(Markup("").join(Markup("<td>{}</td>").format(cell) for cell in row))
        for row in rows
    )
    return Markup("<table><caption>{}</caption><thead><tr>{}</tr></thead><tbody>{}</tbody></table>").format(
        caption, head, body
    )
