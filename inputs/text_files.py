"""Lines of text files, and errors in them that are named by line."""

from collections.abc import Iterator, Sequence

SHOWN_ERRORS = 20


def read_text(path: str) -> Iterator[tuple[int, str]]:
    """Yield (number, line) of a text file: UTF-8 with or without BOM, any line end.

    number: from 1. Bytes that are not UTF-8 become surrogates, so that the names of files are
    kept. Raises ValueError for UTF-16 and for a file with a zero byte.
    """
    with open(path, encoding='utf-8-sig', errors='surrogateescape') as file:
        for number, line in enumerate(file, 1):
            if number == 1 and line[:2] in ('\udcff\udcfe', '\udcfe\udcff'):
                raise ValueError(f'{path} is UTF-16 text; save it as UTF-8')
            if '\0' in line:
                raise ValueError(f'{path}:{number} holds a zero byte: this is no text file')
            yield number, line


def format_errors(errors: Sequence[tuple[int, str]]) -> str:
    """Return the first SHOWN_ERRORS of [(line number, error)] as text, and how many there are."""
    texts = [text for _, text in errors[:SHOWN_ERRORS]]
    if len(errors) > SHOWN_ERRORS:
        texts.append(f'... {len(errors)} such lines in all')
    return '\n'.join(texts)


def raise_errors(errors: Sequence[tuple[int, str]], hint: str = '') -> None:
    """Raise ValueError with [(line number, error)] and a hint; return if there is no error."""
    if errors:
        raise ValueError(f'{format_errors(errors)}\n{hint}'.rstrip())
