"""What every source of measurements promises. Subclass, give the fixtures, and pytest does the rest."""

from __future__ import annotations

import math
import threading
import time
from typing import TYPE_CHECKING

import pytest

from jupyter_gpudeploy.events.samples import decode, encode
from jupyter_gpudeploy.events.types import GpuSample, MetricPoint, ProcessSample
from jupyter_gpudeploy.sources.base import follow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jupyter_gpudeploy.events.types import Sample
    from jupyter_gpudeploy.sources.base import MetricSource


class MetricSourceContract:
    """Subclass it as `class TestNvml(MetricSourceContract)`; override the two fixtures.

    `patience`: how many seconds it may take until something is told.
    """

    patience = 20.0

    @pytest.fixture
    def source(self) -> Iterator[MetricSource]:
        """Yield a source of which something can be told, again and again."""
        raise NotImplementedError("yield the source to be tested")

    @pytest.fixture
    def lost(self) -> MetricSource:
        """Return one whose thing is not there."""
        raise NotImplementedError("return a source that can tell nothing")

    def test_it_tells_something_again_and_again(self, source: MetricSource) -> None:
        for _ in range(2):
            assert self.told(source)
            assert source.trouble == ""

    def test_what_it_tells_is_of_now(self, source: MetricSource) -> None:
        begun = time.time()
        assert all(begun - 1 <= (sample.time or 0.0) <= time.time() + 1 for sample in self.told(source))

    def test_what_is_unknown_is_none_and_numbers_can_be_true(self, source: MetricSource) -> None:
        for sample in self.told(source):
            for name, value in sample._asdict().items():
                if isinstance(value, int | float) and name not in ("task", "line", "attempt"):
                    assert math.isfinite(value)
                    assert value >= 0
            if isinstance(sample, GpuSample):
                assert sample.gpu
                assert sample.utilization is None or sample.utilization <= 100
                assert sample.memory_used is None or sample.memory_used <= (sample.memory_total or math.inf)

    def test_what_it_tells_can_be_kept(self, source: MetricSource) -> None:
        samples = self.told(source)
        assert len(decode(encode(samples))) == len(samples)
        assert all(isinstance(sample, GpuSample | ProcessSample | MetricPoint) for sample in samples)

    def test_a_look_does_not_wait(self, source: MetricSource) -> None:
        self.told(source)
        begun = time.monotonic()
        for _ in range(5):
            source.look()
        assert time.monotonic() - begun < 5

    def test_closed_it_tells_nothing_and_may_be_closed_again(self, source: MetricSource) -> None:
        self.told(source)
        source.close()
        source.close()
        assert not source.look()

    def test_followed_it_is_closed_in_the_end(self, source: MetricSource) -> None:
        stop = threading.Event()
        for samples in follow(source, 0.05, stop):
            if samples:
                stop.set()
        assert not source.look()

    def test_without_its_thing_it_says_why_and_never_raises(self, lost: MetricSource) -> None:
        deadline = time.monotonic() + self.patience
        while not lost.trouble and time.monotonic() < deadline:
            assert not lost.look()
            time.sleep(0.01)
        assert lost.trouble
        assert "\n" not in lost.trouble
        lost.close()

    def told(self, source: MetricSource) -> list[Sample]:
        """Return the next that it tells."""
        deadline = time.monotonic() + self.patience
        while not (samples := list(source.look())):
            assert time.monotonic() < deadline, f"nothing was told: {source.trouble}"
            time.sleep(0.02)
        return samples
