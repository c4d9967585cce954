"""Values made in a thread, some ahead of their use."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from typing import TypeVar

Value = TypeVar("Value")
END = object()


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
