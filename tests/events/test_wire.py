from __future__ import annotations

import json
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_gpudeploy.events.wire import LINE_LIMIT, RECORD_LIMIT, Decoder, Record, encode, kept_as, working_folder

TOKEN = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
MARK = f"\x1egpudeploy {TOKEN} ".encode()


def line(body: bytes, token: str = TOKEN) -> bytes:
    return f"\x1egpudeploy {token} {zlib.crc32(body):08x} ".encode() + body + b"\n"


def decode(*pieces: bytes, token: str = TOKEN) -> tuple[bytes, list[Record], list[object]]:
    """Return (the program's bytes, the records, both in order) of a stream that comes in these pieces."""
    decoder = Decoder(token)
    found = [item for piece in pieces for item in decoder.feed(piece)] + [decoder.rest()]
    text = b"".join(item for item in found if isinstance(item, bytes))
    return text, [item for item in found if isinstance(item, Record)], found


FRAGMENTS = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [
            *(MARK[:size] for size in (1, 5, 11, len(MARK) - 1, len(MARK))),
            MARK + b"00000000 metrics {}\n",
            line(b"metrics {}", "another-run"),
            line(b"metrics {}")[:-1] + b" and more\n",
            line(b"no json here"),
            MARK + b"x" * (LINE_LIMIT + 5),
            b"\n",
            b"progress 10%\rprogress 20%",
            b"last line without newline",
        ]
    ),
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)
PAYLOADS = st.one_of(VALUES, st.integers(LINE_LIMIT - 200, 4 * LINE_LIMIT).map("x".__mul__))
RECORDS = st.tuples(st.sampled_from(["metrics", "file", "notice"]), PAYLOADS).map(lambda pair: Record(*pair))


@given(st.lists(FRAGMENTS | RECORDS, max_size=12), st.data())
@settings(deadline=None, max_examples=300)
def test_text_and_records_come_apart_in_order_however_the_stream_is_cut(parts, data):
    stream, text, expected = b"", b"", []
    for part in parts:
        if isinstance(part, Record):
            lines = encode(TOKEN, *part)
            assert all(len(encoded) <= LINE_LIMIT and encoded.count(b"\n") == 1 for encoded in lines)
            stream += b"".join(lines)
            expected.append((len(text), part))
        else:
            stream += part
            text += part
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=30)))
    pieces = [stream[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    got, records, order = decode(*pieces)
    assert got == text
    assert records == [record for _, record in expected]
    places, seen = [], 0
    for item in order:
        if isinstance(item, Record):
            places.append(seen)
        else:
            seen += len(item)
    assert places == [place for place, _ in expected]


def test_a_stream_that_comes_byte_by_byte_is_the_same():
    stream = b"epoch 3 " + encode(TOKEN, "notice", {"message": "ü\x1e\n"})[0] + b"loss 0.5\nend"
    text, records, _ = decode(*(stream[index : index + 1] for index in range(len(stream))))
    assert text == b"epoch 3 loss 0.5\nend"
    assert records == [Record("notice", {"message": "ü\x1e\n"})]


def test_ordinary_text_is_handed_on_at_once():
    decoder = Decoder(TOKEN)
    assert decoder.feed(b"half a line") == [b"half a line"]
    assert decoder.is_whole
    assert decoder.feed(b"\x1e") == []
    assert not decoder.is_whole
    assert decoder.feed(b"other") == [b"\x1eother"]


def test_a_record_in_a_line_that_is_not_ended_and_beside_a_broken_copy_of_itself():
    whole = encode(TOKEN, "notice", {"message": "x"})[0]
    text, records, _ = decode(b"a" + whole[:30] + whole + b"b" + whole[:-1] + b"!\n" + whole)
    assert text == b"a" + whole[:30] + b"b" + whole[:-1] + b"!\n"
    assert records == [Record("notice", {"message": "x"})] * 2


def test_records_of_another_run_are_text():
    other = b"".join(encode("other", "metrics", {"rows": []}))
    assert decode(other) == (other, [], [other, b""])


@pytest.mark.parametrize("size", [100, LINE_LIMIT - 150, LINE_LIMIT, 3 * LINE_LIMIT + 1, RECORD_LIMIT - 100])
def test_a_record_of_any_size_comes_whole(size):
    payload = {"data": "é" + "x" * size}
    lines = encode(TOKEN, "file", payload)
    assert all(len(encoded) <= LINE_LIMIT for encoded in lines)
    assert decode(b"text between\n".join(lines))[1] == [Record("file", payload)]


def test_a_record_that_is_too_long_is_refused():
    with pytest.raises(ValueError, match="longer than"):
        encode(TOKEN, "file", "x" * RECORD_LIMIT)


def test_a_lost_piece_breaks_its_record_and_no_other():
    long, short = encode(TOKEN, "file", {"data": "x" * 20_000}), encode(TOKEN, "notice", {"message": "m"})
    for missing in range(len(long)):
        decoder = Decoder(TOKEN)
        stream = b"".join(long[:missing] + long[missing + 1 :] + short + long)
        records = decoder.feed(stream)
        assert [record.kind for record in records] == ["notice", "file"], missing
        assert decoder.broken == 1
        assert decoder.is_whole


def test_it_is_whole_between_records_and_not_within_one():
    decoder = Decoder(TOKEN)
    first, *others = encode(TOKEN, "file", {"data": "x" * 9000})
    decoder.feed(first)
    assert not decoder.is_whole
    decoder.feed(b"".join(others))
    assert decoder.is_whole


@pytest.mark.parametrize(
    "body", [b"+1/999999 x", b"+0/2 x", b"+3/2 x", b"+2/2 x", b"metrics [" + b"[" * 3000, b"\xff {}", b"metrics"]
)
def test_hostile_bodies_with_a_right_sum_do_no_harm(body):
    decoder = Decoder(TOKEN)
    stream = line(body)
    text = b"".join(item for item in decoder.feed(stream) if isinstance(item, bytes)) + decoder.rest()
    assert text in (b"", stream)
    assert decoder.feed(line(b"notice 1")) == [Record("notice", 1)]


def test_a_flood_of_marks_is_read_in_time_that_grows_with_its_length():
    text, records, _ = decode(MARK * 100_000)
    assert (text, records) == (MARK * 100_000, [])


def test_bytes_that_are_no_utf8_travel_as_surrogates():
    raw = bytes(range(256))
    payload = {"text": raw.decode("utf-8", "surrogateescape")}
    record = decode(*encode(TOKEN, "output", payload))[1][0]
    assert record.payload["text"].encode("utf-8", "surrogateescape") == raw
    assert json.dumps(payload).isascii()


@pytest.mark.parametrize("token", ["", "a b", "a\nb", "x" * 65, "ü"])
def test_a_token_is_a_plain_word(token):
    with pytest.raises(ValueError, match="no token"):
        Decoder(token)


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("history.csv", "history.csv"),
        ("runs/./a/../history.csv", "runs/history.csv"),
        ("/pod/out/0/deep/x.json", "deep/x.json"),
        ("/pod/work/sub/x.json", "x.json"),
        ("/pod/work/x.json", "pod/work/x.json"),
        ("/data/x.json", "data/x.json"),
        ("../../../../x", "x"),
    ],
)
def test_a_file_of_a_pod_has_one_place_below_the_results(path, kept):
    assert kept_as(path, "/pod/out/0", "/pod/work/sub") == kept


@pytest.mark.parametrize(
    ("asked", "there"),
    [
        ("/home/me/book", "/pod/work"),
        (".", "/pod/work"),
        ("/home/me/book/sub/er", "/pod/work/sub/er"),
        ("sub", "/pod/work/sub"),
        ("/home/me/bookshelf", "/home/me/bookshelf"),
        ("/data/", "/data"),
    ],
)
def test_a_working_folder_is_below_the_notebooks_or_of_the_image(asked, there):
    assert working_folder(asked, "/home/me/book", "/pod/work") == there
