"""samples.jsonl: written by one, read by many, cut off and filled up."""

from __future__ import annotations

import resource

import pytest

from jupyter_gpudeploy.events import samples
from jupyter_gpudeploy.events.samples import SampleReader, SampleWriter, last_samples, newest_time
from jupyter_gpudeploy.events.types import GpuSample, MetricPoint, ProcessSample


def look(time, task=0, gpu="0"):
    return [GpuSample(time, gpu, task, 50.0, 1, 2, 3.0, 4.0), ProcessSample(time, task, 12.5, 1 << 20, 3)]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "samples.jsonl"


def test_what_was_written_is_read_and_unknown_stays_unknown(file):
    written = [
        GpuSample(5.125, "0", 2, 0.0, 0, 80 << 30, 300.5, 61.0),
        GpuSample(5.125, "MIG-1", None, None, 5 << 30, 10 << 30),
        GpuSample(5.125, "1", 3),
        ProcessSample(5.125, 2, None, 1 << 30, 4),
        MetricPoint(0, "ttft_seconds", 0.25, time=5.125, source="server"),
    ]
    assert SampleWriter(file).write(written)
    assert SampleReader(file).poll() == written
    assert b'["1",3]' in file.read_bytes()


def test_a_reader_hands_out_each_sample_once_as_it_comes(file):
    reader = SampleReader(file)
    assert reader.poll() == []
    writer = SampleWriter(file)
    for time in (1.0, 2.0):
        writer.write(look(time))
        assert reader.poll() == look(time)
        assert reader.poll() == []


def test_a_torn_last_line_is_nothing_until_the_next_writer_cuts_it_off(file):
    SampleWriter(file).write(look(1.0))
    with file.open("ab") as stream:
        stream.write(samples.encode(look(2.0))[:-9])
    reader = SampleReader(file)
    assert reader.poll() == look(1.0)
    SampleWriter(file).write(look(3.0))
    assert reader.poll() == look(3.0)
    assert file.read_bytes().count(b"\n") == 2


@pytest.mark.parametrize("junk", [b"{", b"[1]", b'{"t":1,"g":[[]]}', b'{"t":"x"}', b"\xff\x00", b"[" * 5000])
def test_a_line_that_is_no_look_is_passed_over(file, junk):
    file.write_bytes(samples.encode(look(1.0)) + junk + b"\n" + samples.encode(look(2.0)))
    assert SampleReader(file).poll() == look(1.0) + look(2.0)


def test_a_long_file_is_read_in_parts_none_of_them_twice(file):
    writer = SampleWriter(file)
    for time in range(1, 400):
        writer.write(look(float(time)))
    reader, found = SampleReader(file), []
    while part := reader.poll(most_bytes=100):
        assert len(part) <= 4
        found += part
    assert [sample.time for sample in found[::2]] == list(map(float, range(1, 400)))


def test_where_there_is_no_room_a_look_is_lost_and_nothing_of_it_stays(file):
    writer = SampleWriter(file)
    assert writer.write(look(1.0))
    size = file.stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, limits[1]))
    try:
        assert not writer.write(look(2.0))
        assert file.stat().st_size == size
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert writer.write(look(3.0))
    assert SampleReader(file).poll() == look(1.0) + look(3.0)


def test_looks_become_rarer_as_the_file_grows(file):
    with file.open("wb") as stream:
        for size, every in ((0, 1), (samples.FINE_BYTES, 2), (3 * samples.FINE_BYTES, 8), (1 << 33, 64)):
            if size:
                stream.seek(size - 1)
                stream.write(b"\n")
                stream.flush()
            writer = SampleWriter(file)
            assert writer.every == every
            writer.close()


def test_the_last_minutes_are_found_without_the_hours_before(file, monkeypatch):
    monkeypatch.setattr(samples, "_BLOCK", 64)
    writer = SampleWriter(file)
    for time in range(1, 200):
        writer.write(look(float(time), task=time % 3))
    with file.open("ab") as stream:
        stream.write(b'{"t":500,')
    assert [sample.time for sample in last_samples(file, 3)[::2]] == [196.0, 197.0, 198.0, 199.0]
    assert len(last_samples(file, 1e9)) == 2 * 199
    assert [newest_time(file, task) for task in (0, 1, 2, 7)] == [198.0, 199.0, 197.0, 0.0]
    assert last_samples(file.with_name("none"), 3) == []
