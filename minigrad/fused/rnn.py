"""The plain recurrent net over a whole sequence, as one op (Elman 1990).

`RNN.twin` is the definition; `forward` and `vjp` compute the same, faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minigrad.autograd.engine import Array, Op
from minigrad.fused import recurrence
from minigrad.fused.recurrence import empty, fill
from minigrad.ops.shape import stack


class RNN(Op):
    """One layer, in one direction.  With h' the state of the step before,

        h = tanh(W x + b_ih + U h' + b_hh)        or relu in place of tanh

    Takes x (T, B, D), h0 (B, H), W (H, D), U (H, H), b_ih and b_hh (H) or None.  Gives y (T, B, H),
    the h of every step, and the last h.
    With `batch_sizes`, only the first batch_sizes[t] sequences still run at step t.
    """

    def __init__(
        self, nonlinearity: str = "tanh", batch_sizes: Sequence[int] | None = None
    ) -> None:
        self.nonlinearity = nonlinearity
        self.batch_sizes = batch_sizes

    def twin(self, x: Any, h0: Any, W: Any, U: Any, b_ih: Any, b_hh: Any) -> tuple[Any, Any]:
        """The same, step by step, from primitive ops."""
        h, y = h0, []
        for t in range(len(x)):
            a = x[t] @ W.T + h @ U.T  # (B, H)
            if b_ih is not None:
                a = a + b_ih + b_hh
            h_new = a.tanh() if self.nonlinearity == "tanh" else a.relu()
            h = recurrence.where_running(self.batch_sizes, t, h_new, h)
            y.append(h)
        return stack(y), h

    def forward(
        self, x: Array, h0: Array, W: Array, U: Array, b_ih: Array | None, b_hh: Array | None
    ) -> tuple[Array, Array]:
        (T, B, _), H = x.shape, h0.shape[1]
        N = recurrence.width(B)
        states = empty(T + 1, H, N, like=x)
        fill(states[0], h0)
        Uh = empty(H, N, like=x)
        b = None if b_ih is None else recurrence.columns(b_ih + b_hh, N)
        xs = recurrence.steps(x, N)

        for run in recurrence.runs_of_steps(T, H * N):
            rows = states[1:][run]  # (n, H, N): W x first, then what becomes of it
            recurrence.project(W, xs[run], out=rows)
            if b is not None:
                np.add(rows, b, out=rows)
            for t, a in zip(range(run.start, run.stop), rows):
                np.matmul(U, states[t], out=Uh)
                np.add(a, Uh, out=a)
                if self.nonlinearity == "tanh":
                    np.tanh(a, out=a)
                else:
                    np.maximum(a, 0, out=a)
                if self.batch_sizes is not None:
                    recurrence.freeze(self.batch_sizes[t], (a, states[t]))

        if self.is_recorded:
            self.residuals = states
        return recurrence.swap(states[1:, :, :B]), states[T, :, :B].T.copy()

    def vjp(
        self,
        g: Any,
        x: Array,
        h0: Array,
        W: Array,
        U: Array,
        b_ih: Array | None,
        b_hh: Array | None,
    ) -> tuple[Any, ...]:
        """Backpropagation through time; `dv` is the gradient of v."""
        gy, gh = g
        states = self.residuals
        T, B = x.shape[:2]
        H, N = states.shape[1:]
        runs = recurrence.runs_of_steps(T, H * N)
        local = empty(runs[0].stop, H, N, like=x)
        da = empty(H, T, B, like=x)
        dh = fill(empty(H, N, like=x), gh)
        dy = None if gy is None else recurrence.swap(gy)
        U_T = recurrence.transposed(U, B)
        dx = None
        if self.wants(0):
            dx, W_T = empty(T, x.shape[2], N, like=x), recurrence.transposed(W, B)

        for run in reversed(runs):
            rows = local[: run.stop - run.start]
            h = states[1:][run]
            if self.nonlinearity == "tanh":
                np.multiply(h, h, out=rows)
                np.subtract(1, rows, out=rows)  # tanh' = 1 - h^2
            else:
                np.sign(h, out=rows)  # relu' = 1 where h > 0
            for t in reversed(range(run.start, run.stop)):
                # We are at timestep t; dh holds what comes from the steps after it.
                da_t = rows[t - run.start]
                running = B if self.batch_sizes is None else self.batch_sizes[t]
                if dy is not None:
                    dh[:, :B] += dy[t]
                if running < B:
                    held = recurrence.set_aside(running, dh)
                np.multiply(da_t, dh, out=da_t)  # h = tanh(a)
                np.matmul(U_T, da_t, out=dh)  # a = W x + U h' + b: to h'
                if running < B:
                    recurrence.put_back(running, held, dh)
            da[:, run] = rows[:, :, :B].transpose(1, 0, 2)
            if dx is not None:
                recurrence.project(W_T, rows, out=dx[run])  # a = W x + U h' + b: to x

        gW = gU = gb = None
        if self.wants(2):
            gW = recurrence.weight_gradient(da, x)
        if self.wants(3):
            gU = recurrence.weight_gradient(da, recurrence.swap(states[:-1, :, :B]))
        if self.wants(4) or self.wants(5):
            gb = da.reshape(H, -1).sum(1)
        gx = None if dx is None else recurrence.swap(dx[:, :, :B])
        return gx, dh[:, :B].T, gW, gU, gb, gb
