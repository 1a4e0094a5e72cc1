"""Vocabularies, files, streams and windows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigrad.data.text import (
    Streams,
    Vocabulary,
    Windows,
    built_in_text,
    cut_gutenberg,
    read_text,
    split,
)

texts = st.text(min_size=1, max_size=60)


@given(texts)
def test_encode_and_decode_are_inverse(text):
    vocabulary = Vocabulary(text)
    numbers = vocabulary.encode(text)
    assert numbers.dtype == np.int64
    assert vocabulary.decode(numbers) == text
    assert sorted(set(numbers.tolist())) == list(range(len(vocabulary)))
    again = Vocabulary(reversed(text))
    assert vocabulary == again
    assert hash(vocabulary) == hash(again)


def test_what_a_vocabulary_does_not_know():
    vocabulary = Vocabulary("hello")
    assert vocabulary.unknown("hallo!") == "!a"
    with pytest.raises(ValueError, match="'!a'"):
        vocabulary.encode("hallo!")
    with pytest.raises(IndexError, match=r"0\.\.3"):
        vocabulary.decode([0, 4])
    with pytest.raises(IndexError):
        vocabulary.decode([-1])
    assert vocabulary.decode([]) == ""
    assert len(vocabulary.encode("")) == 0


BOOK = "Chapter 1\n\nIt was a dark night.\n\nTHE END\n"
NEW = (
    "The Project Gutenberg eBook of Night\n\nThis ebook is for the use of anyone\n\n"
    "*** START OF {} PROJECT GUTENBERG EBOOK NIGHT:\n  A NOVEL ***\n\n\n"
    + BOOK
    + "\n\n*** END OF {} PROJECT GUTENBERG EBOOK NIGHT ***\n\nSTART: FULL LICENSE\nmore\n"
)
OLD = (
    "*** START**THE SMALL PRINT!**FOR PUBLIC DOMAIN ETEXTS**START***\nWhy is this here?\n"
    "*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*\n\n"
    + BOOK
    + "\nEnd of Project Gutenberg's Etext of Night\n"
)
TAIL_ONLY = (
    BOOK + "\nEnd of the Project Gutenberg EBook of Night\n\n*** END OF THIS PROJECT GUTENBERG"
)


@pytest.mark.parametrize(
    "text",
    [NEW.format("THE", "THE"), NEW.format("THIS", "THIS"), OLD, TAIL_ONLY],
    ids=["new", "this", "old", "tail only"],
)
def test_gutenberg_notices_are_cut(text):
    book, front, back = cut_gutenberg(text)
    assert book == BOOK
    assert front + back + len(book) == len(text)
    assert text[front:].startswith(BOOK)
    assert back > 0


@given(texts)
def test_other_text_is_left_alone(text):
    assert cut_gutenberg(text) == (text, 0, 0)


def test_a_book_may_speak_of_gutenberg():
    text = 'He read "End of the Project Gutenberg EBook" aloud, and *** START OF THE PROJECT too.\n'
    assert cut_gutenberg(text) == (text, 0, 0)


def test_read_text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes("\ufeffdéjà\r\nvu\r".encode())
    assert read_text(path) == "déjà\nvu\n"
    path.write_bytes("déjà “vu”".encode("cp1252"))
    with pytest.warns(UserWarning, match="is not UTF-8 .see byte 1.: it is read as code page 1252"):
        assert read_text(path) == "déjà “vu”"
    path.write_bytes(b"a\0b")
    with pytest.raises(ValueError, match="not a text file: it contains zero bytes"):
        read_text(path)
    path.write_bytes(b"ab\x81")
    with pytest.raises(ValueError, match="not a text file: byte 0x81 at 2 fits neither"):
        read_text(path)
    with pytest.raises(OSError, match="nowhere"):
        read_text(tmp_path / "nowhere")


def test_the_built_in_text_is_plain_prose_without_repeats():
    text = built_in_text()
    assert len(text) > 100_000
    assert text.isascii()
    paragraphs = text.strip().split("\n\n")
    assert len(set(paragraphs)) == len(paragraphs)
    assert all(p[0].isupper() and p[-1] in ".:" and "\n" not in p for p in paragraphs)


def test_split_takes_the_end():
    train, held_out = split(np.arange(25), 0.1)
    assert train.tolist() == list(range(23))
    assert held_out.tolist() == [23, 24]


@given(st.integers(2, 80), st.integers(1, 6), st.integers(1, 9))
def test_streams_read_on_where_they_stopped(size, batch, length):
    numbers = np.arange(size)
    if (size - 1) // batch < 1:
        with pytest.raises(ValueError, match="too short"):
            Streams(numbers, batch, length)
        return
    streams = Streams(numbers, batch, length)
    chunks = [next(streams) for _ in range(len(streams))]
    assert [fresh for _, _, fresh in chunks] == [True] + [False] * (len(chunks) - 1)
    read = np.concatenate([x for x, _, _ in chunks])  # (T, B)
    for x, y, _ in chunks:
        np.testing.assert_array_equal(y, x + 1)  # the one that follows
    np.testing.assert_array_equal(np.diff(read, axis=0), 1)  # each reader goes on and on
    stretch = (size - 1) // batch
    np.testing.assert_array_equal(read[0], stretch * np.arange(batch))
    assert len(np.unique(read)) == read.size  # nobody reads what another reads
    assert stretch - len(read) < length  # and hardly anything is left over
    x, _, fresh = next(streams)
    assert fresh
    np.testing.assert_array_equal(x, chunks[0][0])


@given(st.integers(2, 40), st.integers(1, 7), st.integers(1, 5))
def test_windows_are_all_seen_once_a_pass(size, batch, length):
    numbers = np.arange(size)
    if size <= length:
        with pytest.raises(ValueError, match="no window"):
            Windows(numbers, batch, length)
        return
    windows = Windows(numbers, batch, length)
    orders = []
    for _ in range(2):
        firsts = []
        for _ in range(len(windows)):
            x, y = next(windows)
            assert x.shape == (length, len(y))
            np.testing.assert_array_equal(np.diff(np.vstack([x, y]), axis=0), 1)
            firsts += x[0].tolist()
        assert sorted(firsts) == list(range(size - length))
        orders.append(firsts)
    if size - length > 8:
        assert orders[0] != orders[1]


@settings(max_examples=30)
@given(st.sampled_from([Streams, Windows]), st.integers(0, 30))
def test_batches_go_on_from_their_state(kind, before):
    numbers = np.random.default_rng(0).integers(0, 9, 50)
    first, second = kind(numbers, 3, 4), kind(numbers, 3, 4)
    for _ in range(before):
        next(first)
    second.load_state_dict(first.state_dict())
    for _, mine, other in zip(range(20), first, second):  # they go on without end
        for a, b in zip(mine, other, strict=True):
            np.testing.assert_array_equal(a, b)
