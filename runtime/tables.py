"""Tables of text for the screen."""

from collections.abc import Iterable, Sequence


def format_table(rows: Iterable[Sequence[str]], align: str = '',
                 min_widths: Sequence[int] = ()) -> list[str]:
    """Return a line per row; a column is as wide as its widest cell, with two blanks between.

    rows: the cells of each row, as many in all rows; the header is a row like the others.
    align: a letter per column: 'l' to the left, 'r' to the right, as numbers stand. Columns beyond
        its end stand to the left.
    min_widths: letters that each column has at least, for tables that are printed line by line.
    """
    rows = [list(row) for row in rows]
    columns = len(rows[0]) if rows else 0
    align = align.ljust(columns, 'l')
    widths = [*min_widths, *[0] * columns][:columns]
    for row in rows:
        widths = [max(width, len(cell)) for width, cell in zip(widths, row, strict=True)]
    return ['  '.join(map(align_cell, row, align, widths)).rstrip() for row in rows]


def align_cell(cell: str, side: str, width: int) -> str:
    """Return the text of a cell filled up with blanks to `width` letters; side: 'l' or 'r'."""
    return cell.rjust(width) if side == 'r' else cell.ljust(width)
