"""Values that a thread makes ahead of their use, or while the main thread makes others."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterator
from itertools import islice
from typing import TypeVar

Value = TypeVar("Value")
Result = TypeVar("Result")
END = object()
USED = object()


class _Unwanted(BaseException):
    """Nobody waits for results any more."""


class _Outbox:
    """What a thread makes for one reader, in order; at most `size` items wait."""

    def __init__(self, size: int):
        self.items: queue.Queue = queue.Queue(maxsize=size)
        self.closed = threading.Event()

    def put(self, *item: object) -> bool:
        """(value, error) for the reader. Returns whether the reader still wants it."""
        while not self.closed.is_set():
            try:
                self.items.put(item, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False

    def put_all(self, values: Generator[object, None, None]) -> None:
        """Everything that `values` yields, then END; or the error that it raises. Runs in the thread."""
        try:
            for value in values:
                if not self.put(value, None):
                    return
            self.put(END, None)
        except BaseException as error:  # the reader raises it
            self.put(None, error)
        finally:
            values.close()  # frees what it holds

    def get(self) -> object:
        """The next value, or END. Raises what making it raised."""
        value, error = self.items.get()
        if error is not None:
            raise error
        return value


def ahead(values: Generator[Value, None, None], size: int) -> Iterator[Value]:
    """`values`, made ahead of their use by one thread; at most `size` of them wait. Raises what making them raises.

    The thread ends when nobody wants more values, because the iterator was closed or deleted.

    >>> list(ahead((n * n for n in range(4)), size=2))
    [0, 1, 4, 9]
    """
    outbox = _Outbox(size)
    threading.Thread(target=outbox.put_all, args=(values,), daemon=True).start()
    try:
        while (value := outbox.get()) is not END:
            yield value
    finally:
        outbox.closed.set()


def pipelined(
    work: Callable[[Iterator[Value]], Generator[Result, None, None]], values: Generator[Value, None, None]
) -> Iterator[Result]:
    """What `work(values)` yields, in its order: `work` runs in a thread while this thread makes the next of `values`.

    One value is worked on while the next one is made, and one result waits. Raises what either side raises. The thread
    ends when nobody wants more results, because the iterator was closed or deleted.

    >>> list(pipelined(lambda numbers: (n * n for n in numbers), (n for n in range(4))))
    [0, 1, 4, 9]
    """
    inbox, outbox = queue.SimpleQueue(), _Outbox(1)

    def arriving() -> Iterator[Value]:
        while (box := inbox.get()) is not END:
            yield box.pop()  # no name keeps it
            outbox.put(USED, None)
        if outbox.closed.is_set():  # not all values came
            raise _Unwanted

    threading.Thread(target=lambda: outbox.put_all(work(arriving())), daemon=True).start()
    waiting, exhausted = 0, False  # values that are not used up; whether there are no more
    try:
        while True:
            if waiting < 2 and not exhausted and outbox.items.empty():
                box = list(islice(values, 1))
                waiting, exhausted = waiting + len(box), not box
                inbox.put(box or END)
                del box
                continue
            result = outbox.get()
            if result is END:
                return
            if result is USED:
                waiting -= 1
            else:
                yield result
            del result
    finally:
        outbox.closed.set()
        inbox.put(END)
        values.close()
