"""Values made in a thread, ahead of their use or beside the making of others."""

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


def ahead(values: Generator[Value, None, None], size: int) -> Iterator[Value]:
    """`values`, at most `size` of them waiting; what making them raises is raised here.

    They are made by one thread, which ends when nobody wants more of them: the iterator was closed or forgotten.
    """
    buffer: queue.Queue = queue.Queue(maxsize=size)
    stop = threading.Event()

    def put(*item: object) -> bool:
        """Whether it is still wanted."""
        while not stop.is_set():
            try:
                buffer.put(item, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for value in values:
                if not put(value, None):
                    return
            put(END, None)
        except BaseException as error:  # handed over to whoever waits for a value
            put(None, error)
        finally:
            values.close()  # what it holds is let go

    threading.Thread(target=work, daemon=True).start()
    try:
        while (item := buffer.get())[0] is not END:
            value, error = item
            if error is not None:
                raise error
            yield value
    finally:
        stop.set()


def beside(
    work: Callable[[Iterator[Value]], Generator[Result, None, None]], values: Generator[Value, None, None]
) -> Iterator[Result]:
    """What `work(values)` yields, in its order: `work` runs in a thread while the next of `values` is made in this one.

    One value is worked on while the next one is made, and one result waits. Whatever either side raises is raised here.
    The thread ends when nobody wants more results: the iterator was closed or forgotten.
    """
    inbox, outbox, stop = queue.SimpleQueue(), queue.Queue(maxsize=1), threading.Event()

    def put(*item: object) -> bool:
        """Whether it is still wanted."""
        while not stop.is_set():
            try:
                outbox.put(item, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False

    def arriving() -> Iterator[Value]:
        while (box := inbox.get()) is not END:
            yield box.pop()  # no name keeps it
            put(USED, None)
        if stop.is_set():  # not all values came
            raise _Unwanted

    def run() -> None:
        results = work(arriving())
        try:
            for result in results:
                if not put(result, None):
                    return
            put(END, None)
        except BaseException as error:  # handed over to whoever waits for a result
            put(None, error)
        finally:
            results.close()  # what it holds is let go

    threading.Thread(target=run, daemon=True).start()
    given = ended = 0  # values that were not used up, whether there are no more
    try:
        while True:
            if given < 2 and not ended and outbox.empty():
                box = list(islice(values, 1))
                given, ended = given + len(box), not box
                inbox.put(box or END)
                del box
                continue
            result, error = outbox.get()
            if error is not None:
                raise error
            if result is END:
                return
            if result is USED:
                given -= 1
            else:
                yield result
            del result
    finally:
        stop.set()
        inbox.put(END)
        values.close()
