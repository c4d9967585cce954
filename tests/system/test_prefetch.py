"""Values made in a thread: order, errors, and an end when nobody wants more."""

import threading
import time
from itertools import count, islice

import pytest

from lib.errors import UserError
from lib.system.prefetch import ahead, pipelined


def test_values_come_in_order_and_are_made_before_they_are_asked_for():
    made = []
    values = ahead((made.append(i) or i for i in range(10)), 3)
    assert next(values) == 0
    wait_for(lambda: len(made) == 5)  # one was taken, three wait, one wants to
    assert list(values) == list(range(1, 10))


def test_an_error_is_raised_where_the_value_is_wanted():
    def failing():
        yield 1
        raise UserError("tile.png cannot be read")

    values = ahead(failing(), 5)
    assert next(values) == 1
    with pytest.raises(UserError, match=r"tile\.png"):
        next(values)


def test_the_thread_ends_and_lets_go_when_nobody_wants_more():
    before, closed = set(threading.enumerate()), []

    def endless():
        try:
            yield from count()
        finally:
            closed.append(True)

    values = ahead(endless(), 2)
    assert list(islice(values, 4)) == [0, 1, 2, 3]
    values.close()
    wait_for(lambda: closed and not set(threading.enumerate()) - before)


def test_work_beside_keeps_its_order_and_is_one_value_behind():
    def doubled(values):
        for value in values:
            yield 2 * value
            yield 2 * value + 1

    made = []
    results = pipelined(doubled, (made.append(i) or i for i in range(50)))
    assert list(results) == list(range(100)) and made == list(range(50))
    assert list(pipelined(doubled, (i for i in ()))) == []


@pytest.mark.parametrize("fails", [0, 3])
def test_what_either_side_raises_is_raised_where_results_are_wanted(fails):
    def failing(values):
        for value in values:
            if value == fails:
                raise UserError("the disk is full")
            yield value

    def values():
        yield from range(fails)
        raise UserError("no network")

    before = set(threading.enumerate())
    with pytest.raises(UserError, match="the disk is full"):
        list(pipelined(failing, (i for i in count())))
    with pytest.raises(UserError, match="no network"):
        list(pipelined(failing, values()))
    wait_for(lambda: not set(threading.enumerate()) - before)


def wait_for(there, seconds=10.0):
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end
        time.sleep(0.01)
