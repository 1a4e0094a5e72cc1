"""A stand-in for CuPy on a machine without a GPU: NumPy underneath, CuPy's strictness on top.

It refuses what CuPy refuses (NumPy arrays as operands or indices, conversion to NumPy behind one's
back, functions and keywords that CuPy does not have) and counts the moments at which a real GPU
would make the host wait (`.item()`, `bool(x)`, a boolean mask, a copy to the host).

`install(monkeypatch)` puts it in CuPy's place, so that `device="cuda"` means this.
"""

from __future__ import annotations

import importlib
import inspect
from types import SimpleNamespace
from typing import Any

import numpy as np

syncs = 0  # how often the host had to wait so far


def _count_sync() -> None:
    global syncs
    syncs += 1


def _refuse(x: Any) -> None:
    raise TypeError(f"Unsupported type {type(x)}: CuPy does not convert NumPy arrays implicitly")


def _unwrap(x: Any) -> Any:
    """The NumPy array inside; an error for a NumPy array that was not moved to the device."""
    if isinstance(x, ndarray):
        return x._host
    if isinstance(x, np.ndarray):
        _refuse(x)
    if isinstance(x, tuple | list):
        return type(x)(_unwrap(item) for item in x)
    if isinstance(x, dict):
        return {key: _unwrap(value) for key, value in x.items()}
    return x


def _wrap(x: Any) -> Any:
    """CuPy has no scalars: every result is an array, 0-d if need be."""
    if isinstance(x, np.ndarray | np.generic):
        return ndarray(np.asarray(x))
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return type(x)(*map(_wrap, x))
    if isinstance(x, tuple | list):
        return type(x)(map(_wrap, x))
    return x


# What real CuPy (14.x) has; `tests/test_strict_cupy.py` holds these lists against it.
UFUNC_KEYWORDS = {"out", "dtype", "casting"}
METHODS = """
    all any argmax argmin argsort astype clip copy cumprod cumsum diagonal dot fill flatten
    max mean min nonzero partition prod put ravel repeat reshape round searchsorted sort
    squeeze std sum swapaxes take trace transpose var view
""".split()  # noqa: SIM905
FUNCTIONS = """
    all allclose amax amin any append arange argmax argmin argpartition argsort argwhere around
    array array_equal asarray ascontiguousarray atleast_1d atleast_2d average bincount
    broadcast_arrays broadcast_to clip column_stack compress concatenate convolve copy
    copyto count_nonzero cross cumprod cumsum diag diagonal diff dot dstack einsum empty
    empty_like expand_dims eye flatnonzero flip fliplr flipud full full_like hstack identity
    inner isclose kron linspace logspace matmul max mean median meshgrid min moveaxis
    nan_to_num ndim nonzero ones ones_like outer pad partition percentile prod put
    put_along_axis quantile ravel repeat reshape resize result_type roll rollaxis rot90 round
    searchsorted shape size sort split squeeze stack std sum swapaxes take take_along_axis
    tensordot tile trace transpose tri tril triu unique unravel_index var vdot vstack where
    zeros zeros_like cumulative_sum matrix_transpose
""".split()  # noqa: SIM905
WITHOUT = {  # keywords of NumPy's functions that CuPy's lack
    "all": "where",
    "amax": "initial where",
    "amin": "initial where",
    "any": "where",
    "argsort": "order stable",
    "count_nonzero": "keepdims",
    "einsum": "optimize out",
    "max": "initial where",
    "mean": "where",
    "min": "initial where",
    "prod": "initial where",
    "sort": "order stable",
    "std": "correction mean where",
    "sum": "initial where",
    "take": "mode",
    "unique": "sorted",
    "var": "correction mean where",
}
WAITS = {
    "argwhere",
    "nonzero",
    "flatnonzero",
    "unique",
    "array_equal",
    "allclose",
    "compress",
    "put",
}


class ndarray:
    """An array on the pretended device."""

    __array_priority__ = 100
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, host: np.ndarray) -> None:
        self._host = host
        self.base: ndarray | None = None  # of a view: what it is a view of, which it keeps alive

    def _viewed(self, result: Any) -> Any:
        """`result`, told that it is a view of this if it is one."""
        if isinstance(result, ndarray) and result._host.base is not None:
            mine = self._host if self._host.base is None else self._host.base
            if np.may_share_memory(mine, result._host):
                result.base = self if self.base is None else self.base
        return result

    # --- what may be read without waiting ---
    shape = property(lambda self: self._host.shape)
    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    nbytes = property(lambda self: self._host.nbytes)
    itemsize = property(lambda self: self._host.itemsize)
    strides = property(lambda self: self._host.strides)
    flags = property(lambda self: self._host.flags)
    device = property(lambda self: SimpleNamespace(id=0))
    T = property(lambda self: self._viewed(ndarray(self._host.T)))
    real = property(lambda self: self)

    def __len__(self) -> int:
        return len(self._host)

    def __repr__(self) -> str:
        return f"strict{self._host!r}"

    # --- what makes the host wait ---
    def item(self, *index: int) -> Any:
        _count_sync()
        return self._host.item(*index)

    def tolist(self) -> Any:
        _count_sync()
        return self._host.tolist()

    def get(self) -> np.ndarray:
        _count_sync()
        return self._host.copy()

    def __bool__(self) -> bool:
        return bool(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        return self._host.item().__index__()

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct "
            "a NumPy array explicitly."
        )

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    # --- NumPy's protocols, as CuPy answers them ---
    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **keywords: Any) -> Any:
        unknown = set(keywords) - UFUNC_KEYWORDS
        if method == "__call__" and unknown:
            raise TypeError(f"{ufunc.__name__}: CuPy has no keyword {sorted(unknown)}")
        if method not in ("__call__", "at", "reduce", "accumulate", "outer"):
            return NotImplemented
        if method == "reduce" and set(keywords) - {"axis", "dtype", "out", "keepdims"}:
            raise TypeError(f"{ufunc.__name__}.reduce: CuPy lacks one of {sorted(keywords)}")
        out = keywords.get("out")
        result = getattr(ufunc, method)(*_unwrap(inputs), **_unwrap(keywords))
        if out is not None:
            return out[0] if isinstance(out, tuple) and len(out) == 1 else out
        return _wrap(result)

    def __array_function__(self, function: Any, types: Any, args: Any, keywords: Any) -> Any:
        name = function.__name__
        module = function.__module__
        if name not in FUNCTIONS and module not in ("numpy.linalg", "numpy.random"):
            raise TypeError(f"CuPy has no {module}.{name}")
        if not all(issubclass(t, ndarray) for t in types):
            raise TypeError(f"{name}: NumPy and CuPy arrays mixed: {types}")
        lacking = set(WITHOUT.get(name, "").split()) & set(keywords)
        if lacking:
            raise TypeError(f"{name}: CuPy has no keyword {sorted(lacking)}")
        if name in WAITS:
            _count_sync()
        if name == "where" and len(args) == 1:
            _count_sync()
        out = keywords.get("out")
        result = function(*_unwrap(args), **_unwrap(keywords))
        first = args[0] if args and isinstance(args[0], ndarray) else self
        return first._viewed(_wrap(result)) if out is None else out

    # --- indexing ---
    def __getitem__(self, index: Any) -> Any:
        _wait_for_mask(index)
        return self._viewed(ndarray(np.asarray(self._host[_unwrap(index)])))

    def __setitem__(self, index: Any, value: Any) -> None:
        self._host[_unwrap(index)] = _unwrap(value)


def _wait_for_mask(index: Any) -> None:
    """The result of a boolean mask has a size that only the GPU knows."""
    for part in index if isinstance(index, tuple) else (index,):
        if isinstance(part, ndarray) and part.dtype == bool:
            _count_sync()


def _method(name: str) -> Any:
    def call(self: ndarray, *args: Any, **keywords: Any) -> Any:
        if name in WAITS:
            _count_sync()
        out = keywords.get("out")
        result = getattr(self._host, name)(*_unwrap(args), **_unwrap(keywords))
        if result is self._host:  # astype(copy=False): as in CuPy, one array is one object
            return self
        return self._viewed(_wrap(result)) if out is None else out

    call.__name__ = name
    return call


for _name in METHODS:
    setattr(ndarray, _name, _method(_name))


def _operator(ufunc: Any, reflected: bool = False) -> Any:
    def call(self: ndarray, other: Any) -> Any:
        if isinstance(other, str):
            raise TypeError("Unsupported type <class 'str'>")
        if not isinstance(other, ndarray | np.ndarray | np.generic | bool | int | float):
            return NotImplemented
        pair = (other, self) if reflected else (self, other)
        return self.__array_ufunc__(ufunc, "__call__", *pair)

    return call


def _in_place(ufunc: Any) -> Any:
    def call(self: ndarray, other: Any) -> Any:
        return self.__array_ufunc__(ufunc, "__call__", self, other, out=(self,))

    return call


for _name, _ufunc in {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "truediv": np.true_divide,
    "floordiv": np.floor_divide,
    "mod": np.remainder,
    "pow": np.power,
    "matmul": np.matmul,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "lshift": np.left_shift,
    "rshift": np.right_shift,
}.items():
    setattr(ndarray, f"__{_name}__", _operator(_ufunc))
    setattr(ndarray, f"__r{_name}__", _operator(_ufunc, reflected=True))
    setattr(ndarray, f"__i{_name}__", _in_place(_ufunc))
for _name, _ufunc in {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}.items():
    setattr(ndarray, f"__{_name}__", _operator(_ufunc))
for _name, _ufunc in {"neg": np.negative, "abs": np.absolute, "invert": np.invert}.items():
    setattr(
        ndarray, f"__{_name}__", lambda self, _u=_ufunc: self.__array_ufunc__(_u, "__call__", self)
    )


def asarray(x: Any, dtype: Any = None, **_: Any) -> ndarray:
    """A copy on the device: here an explicit conversion is what is asked for."""
    host = x._host if isinstance(x, ndarray) else np.array(x)
    return ndarray(host if dtype is None else host.astype(dtype))


def asnumpy(x: Any) -> np.ndarray:
    return x.get() if isinstance(x, ndarray) else np.asarray(x)


class _Device:
    def __init__(self, index: int | None = None) -> None:
        self.id = index or 0

    def __enter__(self) -> _Device:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def synchronize(self) -> None:
        _count_sync()


def _creation(name: str) -> Any:
    make = getattr(np, name)
    return lambda *args, **keywords: ndarray(np.asarray(make(*_unwrap(args), **_unwrap(keywords))))


module: Any = SimpleNamespace(
    __name__="cupy",
    ndarray=ndarray,
    asarray=asarray,
    array=asarray,
    asnumpy=asnumpy,
    is_available=lambda: True,
    get_default_memory_pool=lambda: SimpleNamespace(
        used_bytes=lambda: 0, free_all_blocks=lambda: None
    ),
    cuda=SimpleNamespace(
        Device=_Device,
        runtime=SimpleNamespace(getDeviceCount=lambda: 1, getDevice=lambda: 0),
        Stream=SimpleNamespace(null=SimpleNamespace(synchronize=_count_sync)),
        is_available=lambda: True,
    ),
    **{
        name: _creation(name)
        for name in (
            "arange",
            "ascontiguousarray",
            "concatenate",
            "bincount",
            "empty",
            "eye",
            "full",
            "linspace",
            "ones",
            "tri",
            "zeros",
        )
    },
)


def check_against(cupy: Any) -> list[str]:
    """What the lists above promise or deny wrongly, held against the real CuPy (no GPU needed)."""
    wrong = [f"cupy.{name} is missing" for name in FUNCTIONS if not hasattr(cupy, name)]
    wrong += [f"ndarray.{name} is missing" for name in METHODS if not hasattr(cupy.ndarray, name)]
    for name, keywords in WITHOUT.items():
        known = inspect.signature(getattr(cupy, name)).parameters
        wrong += [f"{name} does take {word}" for word in keywords.split() if word in known]
    return wrong


def install(monkeypatch: Any) -> None:
    """Let `device="cuda"` mean this stand-in until the test ends."""
    from minigrad.autograd import engine

    devices = importlib.import_module("minigrad.device")  # mg.device is the class
    for place in (devices, importlib.import_module("minigrad.cuda")):
        monkeypatch.setattr(place, "cupy", lambda: module)
    monkeypatch.setattr(engine, "_ARRAYS", (*engine._ARRAYS, ndarray))
