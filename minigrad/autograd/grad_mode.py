"""Switching the recording of ops on and off."""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
from collections.abc import Callable, Generator
from typing import Any, ClassVar


class _GradMode(threading.local):
    """Whether ops are recorded. Each thread has its own, and starts with recording on."""

    enabled = True


grad_mode = _GradMode()


class no_grad(contextlib.ContextDecorator):
    """Do not record ops: `with no_grad():`, or `@no_grad()` on a function."""

    mode: ClassVar[bool] = False

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        """`@no_grad` without parentheses works too."""
        manager = super().__new__(cls)
        return manager if function is None else manager(function)

    def __init__(self, function: Callable[..., Any] | None = None) -> None:
        self._before: list[bool] = []  # one object may be entered again inside itself

    def __call__(self, function: Callable[..., Any]) -> Any:
        if inspect.isgeneratorfunction(function):
            return _switched_generator(function, type(self))
        return super().__call__(function)

    def _recreate_cm(self) -> Any:  # a decorated function may call itself
        return type(self)()

    def __enter__(self) -> None:
        self._before.append(grad_mode.enabled)
        grad_mode.enabled = self.mode

    def __exit__(self, *exception: object) -> None:
        grad_mode.enabled = self._before.pop()


def _switched_generator(
    function: Callable[..., Generator[Any, Any, Any]], manager: type[no_grad]
) -> Any:
    """A generator that runs in another mode, but leaves the caller's alone while it waits."""

    @functools.wraps(function)
    def generate(*args: Any, **keywords: Any) -> Generator[Any, Any, Any]:
        generator = function(*args, **keywords)
        step: Callable[[], Any] = generator.__next__
        while True:
            with manager():
                try:
                    value = step()
                except StopIteration as end:
                    return end.value
            try:
                step = functools.partial(generator.send, (yield value))
            except GeneratorExit:
                generator.close()
                raise
            except BaseException as error:
                step = functools.partial(generator.throw, error)

    return generate


class enable_grad(no_grad):
    """Record ops again inside `no_grad`."""

    mode = True


class inference_mode(no_grad):
    """`no_grad` by its other name: results are ordinary tensors. With `mode=False`, no change."""

    def __new__(cls, mode: Any = True) -> Any:
        if mode is False:
            return set_grad_enabled(grad_mode.enabled)
        return super().__new__(cls, None if mode is True else mode)

    def __init__(self, mode: Any = True) -> None:
        super().__init__()


class set_grad_enabled(contextlib.ContextDecorator):
    """Switch recording on or off, at once; as a context manager, until its end."""

    def __init__(self, mode: bool) -> None:
        self._mode = mode
        self._before = grad_mode.enabled
        grad_mode.enabled = mode

    def __call__(self, function: Callable[..., Any]) -> Any:
        grad_mode.enabled = self._before
        return super().__call__(function)

    def _recreate_cm(self) -> Any:
        return type(self)(self._mode)

    def __enter__(self) -> None:
        grad_mode.enabled = self._mode

    def __exit__(self, *exception: object) -> None:
        grad_mode.enabled = self._before


def is_grad_enabled() -> bool:
    """Whether ops are being recorded in this thread."""
    return grad_mode.enabled
