"""The plain recurrent net over a whole sequence, as one op (Elman 1990).

`RNN.twin` is the definition; `forward` and `vjp` compute the same, faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minigrad.autograd.engine import Array
from minigrad.cuda import recurrent as kernel
from minigrad.fused import recurrence, single
from minigrad.fused.recurrence import empty, fill, scratch, taken
from minigrad.memory import Joined
from minigrad.ops.shape import stack


class RNN(recurrence.Recurrent):
    """One layer, in one direction.  With h' the state of the step before,

        h = tanh(W x + b_ih + U h' + b_hh)        or relu in place of tanh

    Takes x (T, B, D), h0 (B, H) or None for zeros, W (H, D), U (H, H), b_ih and b_hh (H) or None.
    Gives y (T, B, H), the h of every step, and the last h.
    With `batch_sizes`, only the first batch_sizes[t] sequences still run at step t.
    """

    def __init__(
        self,
        nonlinearity: str = "tanh",
        batch_sizes: Sequence[int] | None = None,
        joined: Joined | None = None,
        stacked: bool = False,
    ) -> None:
        super().__init__(batch_sizes, joined, stacked)
        self.nonlinearity = nonlinearity

    def twin(self, x: Any, h0: Any, W: Any, U: Any, b_ih: Any, b_hh: Any) -> tuple[Any, Any]:
        """The same, step by step, from primitive ops."""
        h, y = recurrence.start(x, h0, len(U)), []
        for t in range(len(x)):
            a = x[t] @ W.T + h @ U.T  # (B, H)
            if b_ih is not None:
                a = a + b_ih + b_hh
            h_new = a.tanh() if self.nonlinearity == "tanh" else a.relu()
            h = recurrence.where_running(self.batch_sizes, t, h_new, h)
            y.append(h)
        return stack(y), self.state(h)

    def forward(
        self, x: Array, h0: Array | None, W: Array, U: Array, b_ih: Array | None, b_hh: Array | None
    ) -> tuple[Array, Array]:
        if type(x) is not np.ndarray:
            done = kernel.forward(self, self.nonlinearity, x, h0, None, W, U, b_ih, b_hh)
            if done is not None:
                return done
        (T, B, _), H = x.shape, len(U)
        if single.fits(x):
            return _forward_single(self, x, h0, W, U, b_ih, b_hh)
        N = recurrence.lanes(B)
        states = empty(T + 1, H, N, like=x)
        fill(states[0], h0)
        Uh = empty(H, N, like=x)
        times_U = recurrence.times(U, N)
        b = None if b_ih is None else b_ih + b_hh
        xs = recurrence.padded(x)

        for run in recurrence.runs_of_steps(T, H * N):
            rows = states[1:][run]  # (n, H, N): W x first, then what becomes of it
            recurrence.project(W, b, xs[run], rows)
            for t, (a, h) in enumerate(zip(rows, states[run]), run.start):
                times_U(h, Uh)
                a += Uh
                if self.nonlinearity == "tanh":
                    np.tanh(a, a)
                else:
                    np.maximum(a, 0, out=a)
                if self.batch_sizes is not None and self.batch_sizes[t] < B:
                    recurrence.freeze(self.batch_sizes[t], (a, h))

        if self.is_recorded:
            self.residuals = states
        return recurrence.outside(states[1:], B), self.state(taken(states[T], B).copy())

    def vjp(
        self,
        g: Any,
        x: Array,
        h0: Array | None,
        W: Array,
        U: Array,
        b_ih: Array | None,
        b_hh: Array | None,
    ) -> tuple[Any, ...]:
        """Backpropagation through time; `dv` is the gradient of v."""
        if isinstance(self.residuals, kernel.Saved):
            wanted = (*map(self.wants, (0, 1)), False, *map(self.wants, (2, 3, 4, 5)))
            gx, gh0, _, *others, _ = kernel.backward(self.residuals, g, x, h0, W, U, wanted)
            return gx, self.state(gh0), *others
        if isinstance(self.residuals, _Space):
            return _vjp_single(self, g, x, W, U, b_ih)
        gy, gh = g
        states = self.residuals
        (T, B, _), (H, N) = x.shape, states.shape[1:]
        runs = recurrence.runs_of_steps(T, H * N)
        local = scratch("local", runs[0].stop, H, N, like=x)
        dh = fill(empty(H, N, like=x), gh)
        dh_used = dh[:, :B]  # without spare columns
        dy = states[1:] if gy is None else recurrence.inside(gy)  # the states: in place of nothing
        times_U_T = recurrence.times(recurrence.transposed(U), N)
        da_all = scratch("da", H, T, B, like=x)

        for run in reversed(runs):
            rows = local[: run.stop - run.start]
            h = states[1:][run]
            if self.nonlinearity == "tanh":
                np.multiply(h, h, rows)
                np.subtract(1, rows, rows)  # tanh' = 1 - h^2
            else:
                np.sign(h, rows)  # relu' = 1 where h > 0
            t = run.stop
            for da, dy_t in zip(rows[::-1], dy[run][::-1]):
                # We are at timestep t; dh holds what comes from the steps after it.
                t -= 1
                running = B if self.batch_sizes is None else self.batch_sizes[t]
                if gy is not None:
                    dh_used += dy_t
                if running < B:
                    held = recurrence.set_aside(running, dh)
                da *= dh  # h = tanh(a)
                times_U_T(da, dh)  # a = W x + U h' + b: to h'
                if running < B:
                    recurrence.put_back(running, held, dh)
            da_all[:, run] = rows[:, :, :B].swapaxes(0, 1)

        da_all = da_all.reshape(H, T * B)  # a = W x + U h' + b: to W, U, b and x
        gx = None
        if self.wants(0):
            gx = np.matmul(da_all.T, W).reshape(x.shape)
        room = recurrence.room_for_gradients(self, W, U, b_ih)
        gW, gU, *gb = room.parts
        if self.wants(2):
            np.matmul(da_all, recurrence.columns("x", x).T, gW)
        if self.wants(3):
            before = recurrence.outside(states[:-1], B)
            np.matmul(da_all, recurrence.columns("x", before).T, gU)
        if gb:
            np.sum(da_all, 1, out=gb[0])
            gb[1][...] = gb[0]
        gh0 = None if h0 is None else self.state(taken(dh, B))
        return gx, gh0, *recurrence.gradients(self, room, 2)


# --- one sequence on the CPU (see single.py) ------------------------------------------------------


class _Space(single.Space):
    blocks = 1

    def __init__(self, T: int, H: int, D: int, biased: bool, dtype: np.dtype[Any]) -> None:
        super().__init__(T, H, D, biased, dtype)
        self.da = np.empty((T, H), dtype)
        self.steps = list(zip(self.products(), self.states[1:]))
        self.back = list(self.da)[::-1]


def _forward_single(
    op: RNN, x: Array, h0: Any, W: Array, U: Array, b_ih: Any, b_hh: Any
) -> tuple[Array, ...]:
    """`RNN.forward` for one sequence."""
    space = single.lend(_Space, len(x), len(U), W.shape[1], b_ih is not None, x.dtype)
    space.begin(x, h0)
    J, Uh = space.weights(recurrence.in_one(op, W, U, b_ih, b_hh), space.states[1:])
    is_tanh = op.nonlinearity == "tanh"
    for times, a in space.steps:  # `a` becomes the next state
        if Uh is None:
            times(J, a)
        else:
            times(J, Uh)
            a += Uh
        if is_tanh:
            np.tanh(a, a)
        else:
            np.maximum(a, 0, out=a)
    return space.finish(op)


def _vjp_single(
    op: RNN, g: Any, x: Array, W: Array, U: Array, b_ih: Array | None
) -> tuple[Array | None, ...]:
    """`RNN.vjp` for one sequence."""
    space: _Space = op.residuals
    dys = space.begin_backward(*g)
    h, local, dh = space.states[1:], space.da, space.dh
    if op.nonlinearity == "tanh":
        np.multiply(h, h, local)
        np.subtract(1, local, local)  # tanh' = 1 - h^2
    else:
        np.sign(h, local)  # relu' = 1 where h > 0
    times_U_T = U.T.dot
    first = None if op.wants(1) else space.back[-1]  # needs no product: h0 wants none
    for dy, da in zip(dys, space.back):
        # We are at timestep t; dh holds what comes from the steps after it.
        if dy is not None:
            dh += dy
        da *= dh  # h = tanh(a)
        if da is not first:
            times_U_T(da, dh)  # a = W x + U h' + b: to h'
    room = recurrence.room_for_gradients(op, W, U, b_ih, is_single=True)
    np.matmul(space.rows[:-1].T, local, room.array)  # np.dot would clear `out` first
    return (
        local.dot(W)[:, None] if op.wants(0) else None,
        op.state(dh[None].copy()) if op.wants(1) else None,
        *recurrence.gradients(op, room),
    )
