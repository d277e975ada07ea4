"""Delimited text: its encoding, its header, and its records where quotes or bytes are damaged."""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lmm4rec.core.errors import DataError
from lmm4rec.data.findings import counted

_MARKS = (  # byte order marks; that of UTF-32 begins like that of UTF-16
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
_LONGEST = 200  # lines of one record, where its quotes are damaged
_LONGEST_CELL = 2**31 - 1  # characters; Python's own limit of 131,072 is less than some descriptions have


class Record(NamedTuple):
    """The cells of a record, none for a blank line; `damage` is empty where it can be read."""

    cells: Sequence[str]
    damage: str = ""


def open_bytes(path: Path) -> io.BufferedReader:
    """The bytes of a file, decompressed where its first bytes are those of gzip, bzip2, xz or a zip of one file.

    Raises:
        DataError: it is a zip of several files, or compressed by Zstandard.
    """
    opened = _decompressor(path)
    return path.open("rb") if opened is None else io.BufferedReader(opened(path))


def is_compressed(path: Path) -> bool:
    """Whether `open_bytes` decompresses the file."""
    return _decompressor(path) is not None


def _decompressor(path: Path) -> Callable[[Path], Any] | None:
    with path.open("rb") as file:
        head = file.read(10)
    return next((opened for begins, opened in _COMPRESSED.items() if re.match(begins, head, re.DOTALL)), None)


def _open_zipped(path: Path) -> Any:
    archive = zipfile.ZipFile(path)
    names = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX/")]
    if "[Content_Types].xml" in names:
        raise DataError(f"{path} is an Excel file: give it the ending .xlsx")
    if len(names) != 1:
        raise DataError(
            f"{path} is a zip of {counted(len(names), 'file')} ({', '.join(names[:5])}); expected one table"
        )
    return archive.open(names[0])


def _refuse_zstandard(path: Path) -> Any:
    raise DataError(f"{path} is compressed by Zstandard, which is not read: unpack it (zstd -d)")


_COMPRESSED: Mapping[bytes, Callable[[Path], Any]] = {  # by first bytes
    rb"\x1f\x8b": gzip.open,
    rb"BZh[1-9]1AY&SY": bz2.open,
    rb"\xfd7zXZ\0": lzma.open,
    rb"PK\x03\x04": _open_zipped,
    rb"\x28\xb5\x2f\xfd": _refuse_zstandard,
}
DAMAGED = (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, NotImplementedError)
"""What decompression raises on damaged files, beside OSError."""


def encoding_of(path: Path, named: str | None) -> str:
    """The encoding that is named, else that of the byte order mark, else UTF-8.

    Raises:
        DataError: the name is unknown, or the bytes are no text.
    """
    if named is not None:
        try:
            return codecs.lookup(named).name
        except LookupError:
            raise DataError(f"encoding = '{named}' is unknown; expected one such as utf-8, utf-16 or cp1252") from None
    with open_bytes(path) as file:
        start = file.read(4096)
    for mark, encoding in _MARKS:
        if start.startswith(mark):
            return encoding
    if start.startswith(b"PAR1"):
        raise DataError(f"{path} is a Parquet file: give it the ending .parquet")
    if re.match(rb"\s*<(!doctype|html)", start, re.IGNORECASE):
        raise DataError(f"{path} is a web page, such as one that asks to log in; expected a table")
    if start.count(0) * 10 > len(start):
        raise DataError(f'{path} holds many zero bytes: expected text. If it is UTF-16, say encoding = "utf-16-le"')
    return "utf-8-sig"


def read_text(path: Path, encoding: str, *, errors: str = "strict") -> str:
    """The text of a file.

    Raises:
        DataError: it is not in that encoding.
    """
    try:
        with open_bytes(path) as file, io.TextIOWrapper(file, encoding, errors, newline="") as text:
            return text.read()
    except UnicodeError as error:
        raise DataError(f"{path} is not {encoding} text: {error}") from None


def header_of(path: Path, encoding: str, separator: str, *, quoted: bool) -> list[str]:
    """The names in the first line that is not blank."""
    with open_bytes(path) as file, io.TextIOWrapper(file, encoding, "replace", newline="") as text:
        return next((cells for cells in rows_of(text, separator, quoted=quoted) if cells), [])


def rows_of(lines: Iterator[str] | io.TextIOBase, separator: str, *, quoted: bool) -> Iterator[list[str]]:
    """The cells of each record; quotes enclose cells, or are letters."""
    return _reader(lines, separator, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE)


def _reader(lines: Iterable[str], separator: str, **more: Any) -> Iterator[list[str]]:
    csv.field_size_limit(_LONGEST_CELL)
    return csv.reader(lines, delimiter=separator, **more)


def width_of(cells: Sequence[str], expected: int) -> int:
    """The number of cells of a record, without empty ones beyond the expected number."""
    return len(cells) if len(cells) <= expected or any(cells[expected:]) else expected


def quotes_enclose(path: Path, encoding: str, separator: str) -> bool:
    """Whether a quote at the beginning of a cell encloses it, always: it is closed at the cell's end.

    Where that fails once, such as in `"Weird Al" live`, quotes are letters; so they are where one would enclose the end
    of a line and the beginning of the next.
    """
    text = read_text(path, encoding, errors="surrogateescape")
    if not any(sign + '"' in text for sign in (separator, "\n", "\r")) and not text.startswith('"'):
        return False
    try:
        rows = _reader(io.StringIO(text, newline=""), separator, strict=True)
        return not any(separator in cell and "\n" in cell for row in rows for cell in row)
    except csv.Error:
        return False


def damaged_records(text: str, separator: str, *, quoted: bool) -> Iterator[Record]:
    """The records of a text in which some quotes are not closed, or some bytes could not be decoded.

    An opening quote without a closing one damages its line alone; a quote elsewhere in a cell is a letter. Bytes that
    could not be decoded stand in the text as surrogates. Without `quoted` all quotes are letters.
    """
    lines, at = io.StringIO(text, newline="").readlines(), 0
    while at < len(lines):
        size = _lines_of_record(lines[at : at + _LONGEST], separator) if quoted else 1
        chunk = "".join(lines[at : at + size])
        cells = next(rows_of(io.StringIO(chunk, newline=""), separator, quoted=quoted), [])
        yield Record(cells, _undecoded(chunk)) if size else Record(lines[at : at + 1], "a quote is not closed")
        at += max(size, 1)


def _lines_of_record(lines: Sequence[str], separator: str) -> int:
    """The number of lines of the first record; 0 where a quote opens that no cell's end closes."""
    for size in range(1, len(lines) + 1):
        error = _first_error("".join(lines[:size]), separator)
        if error != _OPEN:
            return size if size == 1 or not error else 0
    return 0


_OPEN = "unexpected end of data"


def _first_error(chunk: str, separator: str) -> str:
    """What the csv module says about a record, "" where its quotes are in order."""
    if '"' not in chunk:
        return ""
    try:
        list(_reader(io.StringIO(chunk, newline=""), separator, strict=True))
    except csv.Error as error:
        return str(error)
    return ""


def _undecoded(chunk: str) -> str:
    try:
        chunk.encode()
    except UnicodeEncodeError:
        return "it is no UTF-8 text"
    return ""
