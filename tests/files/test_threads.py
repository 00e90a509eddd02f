"""Reading ahead and writing behind: order, bounds, errors and ends, without a clock."""

from __future__ import annotations

import threading

import pytest

from realesrgan.files.threads import ReadAhead, WriteBehind

WAIT = 20  # seconds until a test that hangs fails


def test_reading_keeps_the_order_and_gives_errors_back():
    def read(number):
        if number % 3 == 0:
            raise ValueError(number)
        return number * 10

    with ReadAhead(range(20), read, workers=3) as reading:
        outcomes = list(reading)
    assert [outcome.key for outcome in outcomes] == list(range(20))
    assert [outcome.value for outcome in outcomes if outcome.error is None] == [n * 10 for n in range(20) if n % 3]
    with pytest.raises(ValueError, match=r"^3$"):
        outcomes[3].result()


def test_the_next_is_read_while_the_first_is_in_use():
    second = threading.Event()

    def read(number):
        if number == 1:
            second.set()
        return number

    with ReadAhead(range(3), read) as reading:
        iterator = iter(reading)
        assert next(iterator).value == 0
        assert second.wait(WAIT)


@pytest.mark.parametrize(("ahead", "budget", "allowed"), [(4, 1 << 30, 4), (100, 350, 3), (100, 50, 1)])
def test_what_waits_is_bounded(ahead, budget, allowed):
    started = []

    def read(number):
        started.append(number)
        return bytes(100)

    with ReadAhead(range(50), read, size_of=len, workers=2, ahead=ahead, budget=budget) as reading:
        taken = 0
        for _ in reading:
            taken += 1
            threading.Event().wait(0.02)  # time in which a reader without bounds would go on
            # Before the first size is known, each thread may have taken one.
            assert len(started) - taken <= max(allowed, 2)
        assert taken == 50
    assert len(started) == 50


def test_closing_ends_the_threads():
    before = threading.active_count()
    reading = ReadAhead(range(1000), lambda number: number, workers=3)
    next(iter(reading))
    reading.close()
    assert threading.active_count() == before


def test_writing_gives_outcomes_back_in_the_order_of_submission():
    first_may_end = threading.Event()

    def write(number):
        if number == 0:
            assert first_may_end.wait(WAIT)
        if number == 2:
            raise OSError("full")
        return number * 2

    with WriteBehind(write, workers=2, behind=10) as writing:
        for number in range(5):
            writing.submit(f"k{number}", number)
        assert writing.finished() == []  # the first one is not done, so nothing is given
        first_may_end.set()
        outcomes = writing.drain()
    assert [outcome.key for outcome in outcomes] == ["k0", "k1", "k2", "k3", "k4"]
    assert [outcome.value for outcome in outcomes] == [0, 2, None, 6, 8]
    assert isinstance(outcomes[2].error, OSError)


@pytest.mark.parametrize(("behind", "budget"), [(2, 1 << 30), (100, 200)])
def test_submitting_blocks_at_the_bounds(behind, budget):
    may_end = threading.Event()
    submitted = []

    with WriteBehind(lambda item: may_end.wait(WAIT), workers=1, behind=behind, budget=budget) as writing:

        def submit():
            for number in range(6):
                writing.submit(number, number, 100)
                submitted.append(number)

        thread = threading.Thread(target=submit)
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        assert submitted == [0, 1]
        may_end.set()
        thread.join(WAIT)
        assert not thread.is_alive()
        assert len(writing.drain()) == 6


def test_one_item_larger_than_the_budget_is_taken():
    with WriteBehind(lambda item: item, workers=1, budget=10) as writing:
        writing.submit("a", 1, 1000)
        writing.submit("b", 2, 1000)
        assert [outcome.value for outcome in writing.drain()] == [1, 2]


def test_closing_finishes_what_was_submitted():
    written = []
    with WriteBehind(written.append, workers=1, behind=10) as writing:
        for number in range(5):
            writing.submit(number, number)
    assert written == [0, 1, 2, 3, 4]
