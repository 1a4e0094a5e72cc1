"""Is a gradient right? Compare it with finite differences, and say what is wrong with it if not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minigrad import device as devices
from minigrad.autograd import engine
from minigrad.autograd.engine import Array, Identity, Node
from minigrad.autograd.gradients import grad


class GradcheckError(RuntimeError):
    """The gradient is not that of the function; the message says where and probably why."""


def gradcheck(
    fn: Callable[..., Any],
    inputs: Any,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    fast_mode: bool = False,
) -> bool:
    """Compare the gradient of `fn` at `inputs` with central differences.

        (fn(x + eps) - fn(x - eps)) / (2 eps)  =  gradient    up to atol + rtol |difference|

    Every element of every output is compared, with respect to every element of every input that
    requires a gradient; `fast_mode` compares one random projection of all that instead.

    Returns True, or raises GradcheckError with a diagnosis (returns False without
    `raise_exception`).  Raises ValueError if no input requires a gradient or one is not float64.
    """
    check = _Check(fn, inputs, eps, atol, rtol, nondet_tol)
    try:
        check.repeatable()
        if not (fast_mode and check.one_projection()):
            check.every_element()
        check.linear_and_precise()
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def gradgradcheck(
    fn: Callable[..., Any],
    inputs: Any,
    grad_outputs: Any = None,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    fast_mode: bool = False,
) -> bool:
    """Compare the gradient of the gradient of `fn` with central differences of the gradient.

    `grad_outputs` (random by default) are the cotangents of the outputs; the check includes the
    derivative with respect to them.  Otherwise as `gradcheck`.
    """
    inputs = _as_tuple(inputs)
    outputs = _differentiable(fn(*inputs))
    if grad_outputs is None:
        random = np.random.default_rng(0)
        cotangents = [
            engine.wrap(_like(random.standard_normal(y.shape), y.value), None, True)
            for y in outputs
        ]
    else:
        cotangents = [
            engine.wrap(g.value, None, True) if g is not None else None
            for g in _as_tuple(grad_outputs)
        ]

    def gradient(*arguments: Any) -> tuple[Any, ...]:
        xs = arguments[: len(inputs)]
        ys = _differentiable(fn(*xs))
        wanted = [x for x in xs if isinstance(x, Node) and x.requires_grad]
        found = grad(ys, wanted, arguments[len(inputs) :], create_graph=True, allow_unused=True)
        return tuple(g for g in found if g is not None)

    try:
        return gradcheck(
            gradient,
            (*inputs, *cotangents),
            eps=eps,
            atol=atol,
            rtol=rtol,
            raise_exception=raise_exception,
            nondet_tol=nondet_tol,
            fast_mode=fast_mode,
        )
    except GradcheckError as error:
        raise GradcheckError(f"second derivative: {error}") from None


def _as_tuple(x: Any) -> tuple[Any, ...]:
    return tuple(x) if isinstance(x, tuple | list) else (x,)


def _differentiable(outputs: Any) -> list[Node]:
    return [y for y in _as_tuple(outputs) if isinstance(y, Node) and y.requires_grad]


def _host(array: Array) -> np.ndarray:
    return np.asarray(devices.to_device(array, devices.device("cpu")))


def _like(array: np.ndarray, model: Array) -> Array:
    """`array` with the dtype and on the device of `model`; writing to it is an error."""
    moved = devices.to_device(np.array(array, dtype=model.dtype), devices.device_of(model))
    if isinstance(moved, np.ndarray):
        moved.flags.writeable = False
    return moved


@dataclass
class _Check:
    fn: Callable[..., Any]
    inputs: Any
    eps: float
    atol: float
    rtol: float
    nondet_tol: float

    def __post_init__(self) -> None:
        self.inputs = _as_tuple(self.inputs)
        self.wanted = [
            i for i, x in enumerate(self.inputs) if isinstance(x, Node) and x.requires_grad
        ]
        if not self.wanted:
            raise ValueError("gradcheck needs at least one input with requires_grad=True")
        for i in self.wanted:
            if self.inputs[i].value.dtype != np.float64:
                raise ValueError(
                    f"gradcheck needs float64 inputs, and input {i} is "
                    f"{self.inputs[i].value.dtype}: finite differences drown in the rounding of "
                    "anything less. Use x.double(), or dtype=float64"
                )
        self.random = np.random.default_rng(0)

    # --- evaluating -----------------------------------------------------------------------------

    def outputs(self, at: dict[int, np.ndarray] | None = None) -> list[Any]:
        """The floating outputs of the function, with some of the inputs' values replaced.

        Replaced in the tensors themselves, so that a function may also reach them in another way:
        `gradcheck(lambda x, *parameters: model(x), (x, *model.parameters()))`.
        """
        nodes = [self.inputs[i] for i in self.wanted]
        before = [x.value for x in nodes]
        try:
            for i, x in zip(self.wanted, nodes, strict=True):
                x.value = _like(_host(x.value) if at is None or i not in at else at[i], x.value)
            found = [
                # An input given back as it is would lose its value when that is put back below.
                Identity()(y) if any(y is x for x in nodes) else y
                for y in _as_tuple(self.fn(*self.inputs))
            ]
        finally:
            for x, value in zip(nodes, before, strict=True):
                x.value = value
        outputs = [y for y in found if isinstance(y, Node) and y.value.dtype.kind == "f"]
        if not outputs:
            raise ValueError("gradcheck needs a function that returns a floating tensor")
        return outputs

    def values(self, at: dict[int, np.ndarray] | None = None) -> list[np.ndarray]:
        return [_host(y.value).astype(np.float64) for y in self.outputs(at)]

    def vjp(self, outputs: list[Any], cotangents: dict[int, np.ndarray]) -> list[np.ndarray]:
        """The gradients that the engine finds, for cotangents of some outputs."""
        nodes = [self.inputs[i] for i in self.wanted]
        live = [k for k in cotangents if outputs[k].requires_grad]
        gradients: Sequence[Any] = [None] * len(nodes)
        if live:
            given = [engine.wrap(_like(cotangents[k], outputs[k].value)) for k in live]
            try:
                gradients = grad(
                    [outputs[k] for k in live], nodes, given, retain_graph=True, allow_unused=True
                )
            except (RuntimeError, TypeError, ValueError) as error:
                raise GradcheckError(_failed(error)) from error
        found = []
        for i, x, g in zip(self.wanted, nodes, gradients, strict=True):
            if g is None:
                found.append(np.zeros(x.shape))
                continue
            if g.value.dtype != x.value.dtype:
                raise GradcheckError(
                    f"precision: the gradient of input {i} is {g.value.dtype}, the input "
                    f"{x.value.dtype}. A rule made a constant of a fixed dtype, or cast"
                )
            found.append(_host(g.value))
        return found

    # --- the checks -----------------------------------------------------------------------------

    def repeatable(self) -> None:
        """The same inputs give the same values and gradients."""
        first, again = self.outputs(), self.outputs()
        for k, (y, z) in enumerate(zip(first, again, strict=True)):
            if not self._same(_host(y.value), _host(z.value)):
                raise GradcheckError(
                    f"not deterministic: output {k} differs between two calls with the same "
                    "inputs. It depends on global state: random numbers (dropout?), a counter, "
                    "a cache"
                )
        cotangents = {k: self.random.standard_normal(y.shape) for k, y in enumerate(first)}
        once = self.vjp(first, cotangents)
        for round_ in (first, again):
            for i, g, h in zip(self.wanted, once, self.vjp(round_, cotangents), strict=True):
                if not self._same(g, h):
                    raise GradcheckError(
                        f"not deterministic: the gradient of input {i} differs between two "
                        "backward passes over the same values. A rule depends on global state, or "
                        "changes something it saved"
                    )

    def _same(self, a: np.ndarray, b: np.ndarray) -> bool:
        return a.shape == b.shape and np.allclose(
            a, b, rtol=0, atol=self.nondet_tol, equal_nan=True
        )

    def one_projection(self) -> bool:
        """Whether v . (df/dx) u agrees, for one random direction u and one random cotangent v."""
        directions = {i: self._direction(self.inputs[i].shape) for i in self.wanted}
        outputs = self.outputs()
        cotangents = {k: self._direction(y.shape) for k, y in enumerate(outputs)}
        found = self.vjp(outputs, cotangents)
        analytic = sum(
            float(np.vdot(g, directions[i])) for i, g in zip(self.wanted, found, strict=True)
        )
        sides = []
        for sign in (1, -1):
            at = {
                i: _host(self.inputs[i].value) + sign * self.eps * u for i, u in directions.items()
            }
            sides.append(sum(np.vdot(cotangents[k], y) for k, y in enumerate(self.values(at))))
        numeric = (sides[0] - sides[1]) / (2 * self.eps)
        return bool(self._close(np.asarray(analytic), np.asarray(numeric)))

    def _direction(self, shape: tuple[int, ...]) -> np.ndarray:
        u = self.random.standard_normal(shape)
        return u / max(float(np.sqrt((u * u).sum())), 1e-30)

    def every_element(self) -> None:
        analytic, numeric = self.analytic(), self.numeric()
        for n, i in enumerate(self.wanted):
            for k in range(len(numeric[n])):
                a, d = analytic[n][k], numeric[n][k]
                if not self._close(a, d).all():
                    raise GradcheckError(self.diagnosis(n, i, k, analytic, numeric))

    def _close(self, a: np.ndarray, d: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return np.asarray(np.abs(a - d) <= self.atol + self.rtol * np.abs(d))

    def analytic(self) -> list[list[np.ndarray]]:
        """The engine's Jacobians [input][output], each (elements of input, elements of output)."""
        outputs = self.outputs()
        jacobian = [
            [np.zeros((self.inputs[i].value.size, y.value.size)) for y in outputs]
            for i in self.wanted
        ]
        for k, y in enumerate(outputs):
            for j in range(y.value.size):
                v = np.zeros(y.value.size)
                v[j] = 1
                for n, g in enumerate(self.vjp(outputs, {k: v.reshape(y.shape)})):
                    jacobian[n][k][:, j] = g.reshape(-1)
        return jacobian

    def numeric(self, sides: tuple[int, int] = (1, -1)) -> list[list[np.ndarray]]:
        """The same by finite differences; `sides` (1, 0) looks only ahead, (0, -1) only back."""
        middle = self.values()
        step = self.eps * (sides[0] - sides[1])
        jacobian = []
        for i in self.wanted:
            x = _host(self.inputs[i].value)
            rows: list[list[np.ndarray]] = [[] for _ in middle]
            for j in range(x.size):
                ends = []
                for side in sides:
                    moved = x.copy()
                    moved.reshape(-1)[j] += side * self.eps
                    ends.append(self.values({i: moved}) if side else middle)
                for k, row in enumerate(rows):
                    row.append((ends[0][k] - ends[1][k]).reshape(-1) / step)
            jacobian.append(
                [np.array(row).reshape(x.size, y.size) for row, y in zip(rows, middle, strict=True)]
            )
        return jacobian

    def linear_and_precise(self) -> None:
        """A gradient is linear in the cotangent, to the last digits of float64.

        A rule that squares `g`, or rounds through float32, passes at unit cotangents.
        """
        outputs = self.outputs()
        u = {k: self.random.standard_normal(y.shape) for k, y in enumerate(outputs)}
        v = {k: self.random.standard_normal(y.shape) for k, y in enumerate(outputs)}
        both = {k: u[k] + 3 * v[k] for k in u}
        gu, gv, together = (self.vjp(outputs, c) for c in (u, v, both))
        for n, i in enumerate(self.wanted):
            if not together[n].size:
                continue
            expected = gu[n] + 3 * gv[n]
            scale = float(np.abs(gu[n]).max() + 3 * np.abs(gv[n]).max())
            gap = float(np.abs(together[n] - expected).max())
            if not gap <= 1e-3 * scale + 1e-300:
                raise GradcheckError(
                    f"the gradient of input {i} is not linear in the gradient that arrives: a rule "
                    "uses g in another way than as a factor (squared? clipped? its sign?)"
                )
            used = together[n] != 0
            with np.errstate(over="ignore"):
                rounded = (together[n].astype(np.float32) == together[n])[used]
            if gap > 1e-10 * scale or (used.sum() > 1 and rounded.all()):
                raise GradcheckError(
                    f"precision: the gradient of input {i} carries only about float32's 7 digits. "
                    "A rule or the function casts to float32 on the way"
                )

    # --- saying what is wrong -------------------------------------------------------------------

    def diagnosis(
        self,
        n: int,
        i: int,
        k: int,
        analytic: list[list[np.ndarray]],
        numeric: list[list[np.ndarray]],
    ) -> str:
        a, d = analytic[n][k], numeric[n][k]
        bad = ~self._close(a, d)
        with np.errstate(invalid="ignore"):
            worst = np.where(np.isfinite(a - d), np.abs(a - d), np.inf)
        row, column = np.unravel_index(int(np.where(bad, worst, -1).argmax()), a.shape)
        x = self.inputs[i]
        shape = self.outputs()[k].shape
        at_input = tuple(int(j) for j in np.unravel_index(row, x.shape)) if x.shape else ()
        at_output = tuple(int(j) for j in np.unravel_index(column, shape)) if shape else ()
        return (
            f"wrong gradient of output {k}{list(at_output)} with respect to input "
            f"{i}{list(at_input)}: got {a[row, column]:.6g}, finite differences give "
            f"{d[row, column]:.6g} ({int(bad.sum())} of {bad.size} elements disagree). "
            f"Likely cause: {self.cause(n, i, k, analytic, numeric)}"
        )

    def cause(
        self,
        n: int,
        i: int,
        k: int,
        analytic: list[list[np.ndarray]],
        numeric: list[list[np.ndarray]],
    ) -> str:
        a, d = analytic[n][k], numeric[n][k]
        close = self._close
        if not np.isfinite(d).all():
            return "non-finite values: the function itself is NaN or infinite near this point"
        if not np.isfinite(a).all():
            return "non-finite: the rule gives NaN or infinity where the function is smooth"
        ahead, back = self.numeric((1, 0))[n][k], self.numeric((0, -1))[n][k]
        bad = ~close(a, d)
        if (np.abs(ahead - back) > 0.01 * (np.abs(ahead) + np.abs(back)) + 1e-3)[bad].all():
            return (
                "none of the rule: the function has a kink or jump here (its slopes ahead and "
                "behind differ). Check it at another point"
            )
        if not a.any():
            return (
                "zero: no gradient flows. The rule returns zeros or None, or the value passed "
                "through .detach(), .data, .item() or .numpy() on the way"
            )
        if close(a, -d).all():
            return "wrong sign: the gradient is the negative of what it should be"
        for m, other in enumerate(self.wanted):
            twin = numeric[m][k]
            if m != n and twin.shape == a.shape and close(a, twin).all():
                return f"exchanged: this is the gradient of input {other}"
        ratio = float(np.vdot(d, a) / max(np.vdot(d, d), 1e-300))
        if ratio and close(a, ratio * d).all():
            factor = f"{ratio:.6g}" if abs(ratio) >= 1 else f"1/{1 / ratio:.6g}"
            return (
                f"a constant factor: the gradient is {factor} times what it should be (a factor "
                "forgotten or counted twice, or a mean where a sum belongs)"
            )
        if close(np.abs(a), np.abs(d)).all():
            return f"wrong sign of {int(bad.sum())} elements; their sizes are right"
        x, y = self.inputs[i], self.outputs()[k]
        if len(x.shape) >= 2 and close(_transposed(a, x.shape, 0), d).all():
            return "transposed: the last two axes of the input's gradient are exchanged"
        if len(y.shape) >= 2 and close(_transposed(a, y.shape, 1), d).all():
            return "transposed: the rule exchanges the last two axes of the gradient that arrives"
        if len(a) == a.shape[1] and close(np.diag(a), np.diag(d)).all() and not _off(a).any():
            return (
                "elementwise: the rule acts as if each element of the output depended on the "
                "input's same element alone, and it depends on others as well"
            )
        if (close(a, d) | (a == 0)).all():
            return (
                "not un-broadcast, or an incomplete sum: some contributions are missing and the "
                "others are right. Where an input's element is used several times (repeated by "
                "broadcasting, indexed twice), its gradient is the sum over all its uses"
            )
        if close(a.sum(1), d.sum(1)).all():
            return (
                "right only on average: summed over the output's elements the gradients agree, one "
                "by one they do not. (A check that seeds backward with ones cannot see it.)"
            )
        if (a == a[:, :1]).all() and a.shape[1] > 1:
            return "the gradient that arrives is ignored: all the output's elements give the same"
        rows, depend = int(bad.any(1).sum()), int(d.any(1).sum())
        if rows <= max(1, 0.2 * depend):
            return (
                f"a special case: only {int(bad.sum())} elements, of {rows} input element(s), are "
                "wrong (a boundary, a first or last index, a tie)"
            )
        return "none of the usual ones: compare the rule with the derivative on paper"


def _off(jacobian: np.ndarray) -> np.ndarray:
    """The Jacobian without its diagonal."""
    return jacobian - np.diag(np.diag(jacobian))


def _transposed(jacobian: np.ndarray, shape: tuple[int, ...], axis: int) -> np.ndarray:
    """The Jacobian whose input's (axis 0) or output's (1) last two axes are exchanged."""
    *batch, rows, columns = shape
    if axis == 1:
        return _transposed(jacobian.T, shape, 0).T
    return jacobian.reshape(*batch, columns, rows, -1).swapaxes(-3, -2).reshape(jacobian.shape)


def _failed(error: Exception) -> str:
    message = str(error)
    if "read-only" in message:
        return (
            f"the backward pass failed: {message}. A rule writes into the gradient it was given "
            "(g *= 2 writes; g = g * 2 does not), or into a saved value"
        )
    if "transposed?" in message:
        return f"transposed: {message}"
    if "gradient of shape" in message:
        return (
            f"not un-broadcast, or of a wrong shape: {message}. Where an input was repeated by "
            "broadcasting, its gradient is summed over the repetitions"
        )
    return f"the backward pass failed: {message}"
