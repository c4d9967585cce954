"""Millions of integers to text and back, without a Python object for each, and without the whole text in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

LETTERS_AT_ONCE = 2**20  # letters parsed at once
NUMBERS_AT_ONCE = 2**14  # numbers formatted at once
LETTERS = b"-0123456789 \t\r\n\v\f"  # that a text of numbers may hold
# Four bytes each: nothing (row 0), a blank and the number's first 1 to 3 digits (rows to 999), three more (1000 on).
_DIGITS = [b"", *(b" %d" % i for i in range(1, 1000)), *(b"%03d" % i for i in range(1000))]
_CELLS = np.frombuffer(b"".join(digits.rjust(4, b"\0") for digits in _DIGITS), np.uint32)
_ZERO = np.frombuffer(b"\0\0 0", np.uint32)


class LongText:
    """A text that is too long for memory. It can be read once, in `pieces`.

    `head`: its first letters. `most`: an upper bound of its length.
    """

    def __init__(self, head: bytes, pieces: Iterable[bytes], most: int):
        self.head, self.pieces, self.most = head, pieces, most

    def __len__(self) -> int:
        return self.most


def pairs_of_text(text: str | bytes | LongText) -> tuple[np.ndarray, np.ndarray, int]:
    """(every other number from the first, and from the second, int64; how many). Raises as `numbers_of_text`."""
    pairs = [np.empty(len(text) // 4 + 1, np.int64) for _ in range(2)]  # what is not written to takes no memory
    count = 0
    for numbers in _pieces_of_text(text):
        for i in range(2):
            place = (count + i) // 2
            some = numbers[i::2]
            pairs[(count + i) % 2][place : place + len(some)] = some
        count += len(numbers)
    starts, lengths = pairs
    starts.resize((count + 1) // 2, refcheck=False)
    lengths.resize(count // 2, refcheck=False)
    return starts, lengths, count


def numbers_of_text(text: str | bytes) -> np.ndarray:
    """The words of the text, int64, with blanks or line ends between them.

    Raises ValueError or OverflowError where one is not such an integer: `+1`, `1_000`, `1.0`, digits of other scripts.

    >>> numbers_of_text(" 3 0007 -2 ").tolist()
    [3, 7, -2]
    """
    return np.concatenate([np.zeros(0, np.int64), *_pieces_of_text(text)])


def _pieces_of_text(text: str | bytes | LongText) -> Iterator[np.ndarray]:
    """The same, of pieces of the text."""
    long = isinstance(text, LongText)
    rest = b"" if long else text[:0]
    for piece in text.pieces if long else (text[i : i + LETTERS_AT_ONCE] for i in range(0, len(text), LETTERS_AT_ONCE)):
        piece = rest + piece
        blanks = (" ", "\n", "\t", "\r") if isinstance(piece, str) else (b" ", b"\n", b"\t", b"\r")
        end = max(piece.rfind(blank) for blank in blanks) + 1  # a word may go on in the next piece
        rest = piece[end:]
        yield _numbers(piece[:end])
    yield _numbers(rest)


def _numbers(piece: str | bytes) -> np.ndarray:
    data = piece.encode() if isinstance(piece, str) else piece
    if data.translate(None, LETTERS):  # int() would read 1_000 and digits of other scripts
        raise ValueError("numbers are written with the digits 0 to 9")
    if b"-" not in data and data and not data.isspace():
        # No Python object for each. It cuts what is too large down to this:
        numbers = np.fromstring(data, np.int64, sep=" ")
        if not (numbers == np.iinfo(np.int64).max).any():
            return numbers
    return np.array([int(word) for word in data.split()], np.int64)


def text_of_numbers(numbers: np.ndarray) -> Iterator[bytes]:
    """Numbers (N,), none below 0, in decimal with a blank between them. Holds no Python object for each.

    >>> b"".join(text_of_numbers(np.array([7, 0, 65536])))
    b'7 0 65536'
    """
    for i in range(0, len(numbers), NUMBERS_AT_ONCE):
        rest = numbers[i : i + NUMBERS_AT_ONCE]
        cells = np.empty((len(rest), (len(str(rest.max())) + 2) // 3), np.uint32)
        for column in reversed(range(cells.shape[1])):
            above = rest // 1000
            cells[:, column] = _CELLS[np.minimum(rest, rest - above * 1000 + 1000)]
            rest = above
        cells[numbers[i : i + NUMBERS_AT_ONCE] == 0, -1] = _ZERO
        text = cells.tobytes().translate(None, b"\0")
        yield text if i else text[1:]
