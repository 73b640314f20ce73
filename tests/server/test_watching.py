"""One look for all who listen, and none while nobody does."""

import asyncio
import threading

import pytest

from jupyter_gpudeploy.server import watching
from jupyter_gpudeploy.server.threads import Threads
from jupyter_gpudeploy.server.watching import FullError, Watching


class Looks:
    """Counts the looks; `number` is what there is to see. A look waits for `gate`."""

    def __init__(self):
        self.count = 0
        self.number = 0
        self.gate = threading.Event()
        self.gate.set()
        self.began = threading.Event()

    def __call__(self):
        self.count += 1
        self.began.set()
        assert self.gate.wait(30)
        if self.number < 0:
            raise RuntimeError("it broke")
        return {"time": self.count, "runs": [self.number]}


def run(test):
    """Run the test in a loop in which nothing may be left behind."""

    async def whole():
        looks = Looks()
        await asyncio.wait_for(test(looks, Watching(looks, Threads(1))), 60)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(whole(), debug=False)


async def ended(house):
    await asyncio.wait([house._task])


def test_two_listeners_have_one_look(monkeypatch):
    monkeypatch.setattr(watching, "LEAST_SECONDS", 0.0)

    async def test(looks, house):
        looks.gate.clear()
        first, second = house.join(0.01), house.join(0.01)
        both = asyncio.gather(first.next(30), second.next(30))
        assert await asyncio.to_thread(looks.began.wait, 30)
        looks.gate.set()
        one, other = await both
        assert one is other
        house.leave(first)
        house.leave(second)
        await ended(house)

    run(test)


def test_what_has_not_changed_is_not_sent_again(monkeypatch):
    monkeypatch.setattr(watching, "LEAST_SECONDS", 0.0)

    async def test(looks, house):
        listener = house.join(0.001)
        assert '"runs": [0]' in await listener.next(30)
        seen = looks.count
        while looks.count < seen + 20:
            assert await listener.next(0.01) is None
        looks.number = 1
        assert '"runs": [1]' in await listener.next(30)
        house.leave(listener)
        await ended(house)

    run(test)


def test_nobody_looks_while_nobody_listens(monkeypatch):
    monkeypatch.setattr(watching, "LEAST_SECONDS", 0.0)

    async def test(looks, house):
        assert looks.count == 0
        for number in (1, 2):
            looks.number = number
            listener = house.join(0.001)
            assert f'"runs": [{number}]' in await listener.next(30), "what was seen last time is old"
            house.leave(listener)
            await ended(house)
            assert await listener.next(0.01) is None
        seen = looks.count
        await asyncio.sleep(0.05)
        assert looks.count == seen

    run(test)


def test_a_look_that_fails_is_not_the_last_one(monkeypatch, caplog):
    monkeypatch.setattr(watching, "LEAST_SECONDS", 0.0)

    async def test(looks, house):
        looks.number = -1
        listener = house.join(0.001)
        while looks.count < 3:
            assert await listener.next(0.01) is None
        looks.number = 5
        assert '"runs": [5]' in await listener.next(30)
        house.leave(listener)
        await ended(house)

    run(test)
    assert "it broke" in caplog.text


def test_the_pace_is_that_of_the_most_impatient_within_limits():
    async def test(_, house):
        listeners = [house.join(every) for every in (0.0, 5.0, 1e9)]
        assert [one.every for one in listeners] == [watching.LEAST_SECONDS, 5.0, watching.MOST_SECONDS]
        for listener in listeners:
            house.leave(listener)
        await ended(house)

    run(test)


def test_there_is_room_for_so_many():
    async def test(_, house):
        listeners = [house.join(1) for _ in range(watching.LISTENERS)]
        with pytest.raises(FullError):
            house.join(1)
        house.leave(listeners.pop())
        listeners.append(house.join(1))
        for listener in listeners:
            house.leave(listener)
        await ended(house)

    run(test)


def test_what_a_thread_raises_is_raised_where_it_is_awaited():
    async def test(_, __):
        with pytest.raises(ZeroDivisionError):
            await Threads(1).do(divmod, 1, 0)
        assert await Threads(1).do(divmod, 7, 2) == (3, 1)

    run(test)
