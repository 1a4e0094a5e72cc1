"""Switching the recording of ops on and off."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
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

    def _recreate_cm(self) -> Any:  # a decorated function may call itself
        return type(self)()

    def __enter__(self) -> None:
        self._before = grad_mode.enabled
        grad_mode.enabled = self.mode

    def __exit__(self, *exception: object) -> None:
        grad_mode.enabled = self._before


class enable_grad(no_grad):
    """Record ops again inside `no_grad`."""

    mode = True


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
