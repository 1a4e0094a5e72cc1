"""mg.save and mg.load: what goes in comes out, and nothing is ever half written."""

import dataclasses
import enum
import io
import json
import math
import os
import pickle
import stat
import zipfile
from collections import OrderedDict, defaultdict

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import strict_cupy
from hypothesis import given, settings
from hypothesis import strategies as st

from minigrad import checkpoint
from minigrad.autograd.engine import wrap
from minigrad.checkpoint import load, save
from minigrad.device import device, to_device
from minigrad.random import Generator
from minigrad.tensor import Tensor

# --- round trips ----------------------------------------------------------------------------------

dtypes = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="?"),
    hnp.unsigned_integer_dtypes(),
    hnp.floating_dtypes(),
    hnp.complex_number_dtypes(),
    hnp.unicode_string_dtypes(),
    hnp.datetime64_dtypes(),
)
shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


def strided(array):
    """The same values, seen through a view that is not contiguous."""
    padded = np.repeat(array, 2, axis=-1)[..., ::2] if array.ndim else array
    return padded.T


arrays = hnp.arrays(dtypes, shapes).flatmap(lambda a: st.sampled_from([a, strided(a)]))
tensors = st.builds(
    lambda a, r: wrap(a, None, r),
    hnp.arrays(np.float32, shapes).flatmap(lambda a: st.sampled_from([a, strided(a)])),
    st.booleans(),
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([2**63 - 1, 2**63, -(2**63), 10**40]),
    st.floats(),
    st.text(),
    st.binary(),
    st.sampled_from([np.float32(1.5), np.int8(-3), np.bool_(True), np.str_("x")]),
    st.sampled_from([np.dtype("float32"), np.dtype(">i4"), device("cpu"), device("cuda:1")]),
)
keys = st.one_of(st.text(), st.integers(), st.booleans(), st.none(), st.floats(allow_nan=False))
objects = st.recursive(
    scalars | arrays | tensors,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(keys, inner, max_size=3),
        st.dictionaries(st.text(), inner, max_size=3).map(OrderedDict),
    ),
    max_leaves=8,
)


def assert_same(a, b):
    """Equal in type, structure and every bit."""
    assert type(a) is type(b)
    if isinstance(a, Tensor):
        assert a.requires_grad == b.requires_grad
        assert_same(a.numpy(force=True), b.numpy(force=True))
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert a.tobytes() == b.tobytes()
    elif isinstance(a, dict):
        assert [type(k) for k in a] == [type(k) for k in b]
        assert list(a) == list(b)
        for x, y in zip(a.values(), b.values(), strict=True):
            assert_same(x, y)
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    elif isinstance(a, float):
        assert (math.isnan(a) and math.isnan(b)) or a.hex() == b.hex()
    else:
        assert a == b


def through_file(obj):
    file = io.BytesIO()
    save(obj, file)
    file.seek(0)
    return load(file)


def test_too_little_memory_is_not_called_damage(monkeypatch):
    def full(*args, **keywords):
        raise MemoryError("no more")

    file = io.BytesIO()
    save({"w": np.ones(3)}, file)
    file.seek(0)
    monkeypatch.setattr(np.lib.format, "read_array", full)
    with pytest.raises(MemoryError, match="no more"):
        load(file)


def test_files_do_not_depend_on_the_order_in_memory(tmp_path):
    values = np.arange(6.0).reshape(2, 3)
    for name, array in ("c", values), ("f", np.asfortranarray(values)):
        save({"w": wrap(array)}, tmp_path / name)
    assert (tmp_path / "c").read_bytes() == (tmp_path / "f").read_bytes()


@given(objects)
@settings(max_examples=150, deadline=None)
def test_what_is_saved_comes_back(obj):
    assert_same(obj, through_file(obj))


def test_integers_beyond_what_python_prints():
    for n in (10**5000, -(10**5000)):
        assert through_file([n]) == [n]


def test_dictionaries_that_look_like_the_format_itself():
    for obj in ({"tensor": 0}, {"dict": {}}, {"tuple": [1]}, [{"int": "0x1"}], {1: 2}, {"1": 2}):
        assert_same(obj, through_file(obj))


def test_tied_tensors_are_stored_once():
    shared = wrap(np.arange(1000.0)).value
    back = through_file({"a": wrap(shared), "b": [wrap(shared)]})
    assert back["a"].value is back["b"][0].value
    file = io.BytesIO()
    save([wrap(shared)] * 50, file)
    assert len(file.getvalue()) < 20_000


def test_a_dataclass_is_saved_as_a_dict(tmp_path):
    @dataclasses.dataclass
    class Config:
        hidden: int = 300
        betas: tuple[float, float] = (0.9, 0.999)

    assert_same(
        through_file({"config": Config()}), {"config": {"hidden": 300, "betas": (0.9, 0.999)}}
    )


def test_random_numbers_go_on_where_they_were():
    generator, other = Generator().manual_seed(3), np.random.RandomState(5)
    generator.numpy.random(7)
    back = through_file({"mg": generator.get_state(), "legacy": other.get_state(legacy=False)})
    want = generator.numpy.random(5), other.rand(5)
    again = np.random.RandomState()
    again.set_state(back["legacy"])
    got = Generator().set_state(back["mg"]).numpy.random(5), again.rand(5)
    assert np.array_equal(got, want)


def test_the_same_object_gives_the_same_bytes():
    first, second = io.BytesIO(), io.BytesIO()
    save({"w": np.ones(3)}, first)
    save({"w": np.ones(3)}, second)
    assert first.getvalue() == second.getvalue()


def test_standard_tools_can_read_it(tmp_path):
    save({"model": {"lstm.weight": wrap(np.ones((2, 3)))}, "epoch": 4}, tmp_path / "run.mg")
    with np.load(tmp_path / "run.mg") as archive:
        assert np.array_equal(archive["00000 model.lstm.weight"], np.ones((2, 3)))
    with zipfile.ZipFile(tmp_path / "run.mg") as archive:
        assert archive.testzip() is None
        assert json.loads(archive.read("checkpoint.json"))["tree"]["dict"]["epoch"] == 4


# --- what cannot be saved -------------------------------------------------------------------------


class Colour(enum.IntEnum):
    RED = 1


@pytest.mark.parametrize(
    "bad",
    [
        lambda: 0,
        {1, 2},
        defaultdict(list),
        object(),
        np.array([None]),
        np.ma.masked_array([1, 2]),
        np.random.default_rng(),
        Colour.RED,
        1j,
        io.BytesIO,
    ],
    ids=lambda bad: type(bad).__name__,
)
def test_what_cannot_be_saved_is_named_by_its_place(bad, tmp_path):
    path = tmp_path / "run.mg"
    save("old", path)
    for obj, place in (
        ({"model": {"layers": [0, 1, {"fn": bad}]}}, r"model\.layers\[2\]\.fn"),
        (("a", {"b c": bad}), r"\[1\]\['b c'\]"),
        ({3: bad}, r"\[3\]"),
        (bad, "the object"),
    ):
        with pytest.raises(TypeError, match=f"cannot save {place}: "):
            save(obj, path)
    assert load(path) == "old"
    assert os.listdir(tmp_path) == ["run.mg"]


def test_keys_and_cycles():
    with pytest.raises(TypeError, match=r"cannot save model: it has the key \(1, 2\)"):
        save({"model": {(1, 2): 0}}, io.BytesIO())
    loop = {"a": [1]}
    loop["a"].append(loop)
    with pytest.raises(ValueError, match=r"a\[1\]: it contains itself"):
        save(loop, io.BytesIO())
    twice = [1]
    assert through_file([twice, twice]) == [[1], [1]]


# --- writing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("convert", [str, lambda p: p, os.fspath], ids=["str", "Path", "fspath"])
def test_paths(convert, tmp_path):
    save([1], convert(tmp_path / "a.mg"))
    assert load(convert(tmp_path / "a.mg")) == [1]


class Interrupted(BaseException):
    """As Ctrl-C is: no Exception."""


@pytest.mark.parametrize("error", [OSError("disk full"), Interrupted()], ids=["error", "Ctrl-C"])
@pytest.mark.parametrize("moment", ["write_array", "fsync", "replace"])
def test_a_failure_leaves_the_old_file_and_nothing_else(error, moment, tmp_path, monkeypatch):
    path = tmp_path / "run.mg"
    save({"w": np.zeros(1000)}, path)
    old = path.read_bytes()

    def fail(*_, **__):
        raise error

    owner = np.lib.format if moment == "write_array" else os
    with monkeypatch.context() as patch:
        patch.setattr(owner, moment, fail)
        with pytest.raises(type(error)):
            save({"w": np.ones(1000)}, path)
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == ["run.mg"]
    save({"w": np.ones(1000)}, path)
    assert load(path)["w"].all()


def test_links_permissions_and_special_files_stay_what_they_are(tmp_path):
    real, link = tmp_path / "real.mg", tmp_path / "link.mg"
    save(1, real)
    real.chmod(0o640)
    link.symlink_to(real)
    save(2, link)
    assert link.is_symlink()
    assert load(real) == 2
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    plain = tmp_path / "plain"
    plain.write_text("")
    save(3, tmp_path / "new.mg")
    assert (tmp_path / "new.mg").stat().st_mode == plain.stat().st_mode
    with pytest.raises(FileNotFoundError, match="no folder"):
        save(1, tmp_path / "missing" / "run.mg")
    with pytest.raises(IsADirectoryError):
        save(1, tmp_path)
    save(1, "/dev/null")
    assert not os.path.isfile("/dev/null")


# --- reading what is not right --------------------------------------------------------------------


@pytest.fixture(scope="module")
def content():
    file = io.BytesIO()
    save({"w": wrap(np.arange(6.0)), "epoch": 3, "name": "a"}, file)
    return file.getvalue()


def test_every_truncation_is_refused(content):
    for length in range(len(content)):
        with pytest.raises(ValueError, match=r"empty|damaged|no minigrad checkpoint"):
            load(io.BytesIO(content[:length]))


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_a_damaged_byte_is_noticed_or_harmless(content, data):
    position = data.draw(st.integers(0, len(content) - 1))
    damaged = bytearray(content)
    damaged[position] ^= data.draw(st.integers(1, 255))
    try:
        found = load(io.BytesIO(bytes(damaged)))
    except ValueError:
        return
    assert_same(found, load(io.BytesIO(content)))


def torch_file():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", b"...")
    return file.getvalue()


def npz_file():
    file = io.BytesIO()
    np.savez(file, a=np.ones(2))
    return file.getvalue()


def npy_file():
    file = io.BytesIO()
    np.save(file, np.ones(2))
    return file.getvalue()


def zip_file():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("readme.txt", "hello")
    return file.getvalue()


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (b"", "is empty"),
        (pickle.dumps({"a": 1}), "is a pickle"),
        (torch_file(), r"written by torch\.save"),
        (npz_file(), "npz"),
        (npy_file(), "npy"),
        (zip_file(), r"readme\.txt"),
        (b"\x40\0\0\0\0\0\0\0" + b'{"a":', "safetensors"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"Once upon a time", "begins with b'Once upon a time'"),
    ],
)
def test_a_foreign_file_is_called_by_its_name(what, said, tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(what)
    with pytest.raises(ValueError, match=rf"model\.pt is no minigrad checkpoint: it .*{said}"):
        load(path)


def test_no_code_runs_from_a_file(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    file = io.BytesIO()
    np.save(file, np.array([Bomb()]), allow_pickle=True)
    head = {"format": "minigrad checkpoint", "version": 1, "arrays": ["0.npy"]}
    path = tmp_path / "bomb.mg"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("checkpoint.json", json.dumps({**head, "tree": {"array": 0}}))
        archive.writestr("0.npy", file.getvalue())
    with pytest.raises(ValueError, match="pickle"):
        load(path)
    assert not (tmp_path / "ran").exists()


def test_versions_and_compression(tmp_path):
    path = tmp_path / "run.mg"
    with zipfile.ZipFile(path, "w") as archive:
        head = {"format": "minigrad checkpoint", "version": 2, "arrays": [], "tree": 1}
        archive.writestr("checkpoint.json", json.dumps(head))
    with pytest.raises(ValueError, match="version 2, and this minigrad reads version 1"):
        load(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("checkpoint.json", json.dumps({**head, "version": 1}))
    with pytest.raises(ValueError, match="without compression"):
        load(path)


def test_a_tensor_from_a_gpu_loads_on_the_cpu():
    file = io.BytesIO()
    with pytest.MonkeyPatch.context() as patch:
        strict_cupy.install(patch)
        x = to_device(np.arange(3.0), device("cuda"))
        save({"w": wrap(x), "raw": x}, file)
        file.seek(0)
        back = load(file)
        assert str(back["w"].device) == "cuda:0"
        assert type(back["raw"]) is strict_cupy.ndarray
        file.seek(0)
        moved = load(file, map_location="cpu")
        file.seek(0)
        assert load(file, map_location=device("cuda"))["w"].device.type == "cuda"
    assert np.array_equal(moved["w"].value, np.arange(3.0))
    assert np.array_equal(moved["raw"], np.arange(3.0))

    def no_gpu(array, where):
        raise RuntimeError(f"there is no {where} here")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "to_device", no_gpu)
        file.seek(0)
        with pytest.raises(RuntimeError, match=r"saved on cuda:0.*map_location='cpu'"):
            load(file)
    with pytest.raises(RuntimeError, match="no such device"):
        load(file, map_location="tpu")
