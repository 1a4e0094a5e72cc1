"""The LSTM over a whole sequence, as one op (Hochreiter and Schmidhuber 1997; Gers et al. 2000).

`LSTM.twin` is the definition; `forward` and `vjp` compute the same, faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minigrad.autograd.engine import Array, Op
from minigrad.fused import recurrence
from minigrad.fused.recurrence import empty, fill
from minigrad.ops.shape import stack


class LSTM(Op):
    """One layer, in one direction.  With h' and c' the states of the step before,

        a = W x + b_ih + U h' + b_hh
        i, f, g, o = sigmoid(a_i), sigmoid(a_f), tanh(a_g), sigmoid(a_o)
        c = f c' + i g
        m = o tanh(c)
        h = m, or W_hr m if there is a projection

    Takes x (T, B, D), h0 (B, P), c0 (B, H), W (4H, D), U (4H, P), b_ih and b_hh (4H) or None,
    W_hr (P, H) or None (then P = H).  Gives y (T, B, P), the h of every step, and the last h and c.
    With `batch_sizes`, only the first batch_sizes[t] sequences still run at step t.
    """

    def __init__(self, batch_sizes: Sequence[int] | None = None) -> None:
        self.batch_sizes = batch_sizes

    def twin(
        self, x: Any, h0: Any, c0: Any, W: Any, U: Any, b_ih: Any, b_hh: Any, W_hr: Any
    ) -> tuple[Any, Any, Any]:
        """The same, step by step, from primitive ops."""
        h, c, y = h0, c0, []
        for t in range(len(x)):
            a = x[t] @ W.T + h @ U.T  # (B, 4H)
            if b_ih is not None:
                a = a + b_ih + b_hh
            i, f, g, o = a.chunk(4, 1)
            c_new = f.sigmoid() * c + i.sigmoid() * g.tanh()
            m = o.sigmoid() * c_new.tanh()
            h_new = m if W_hr is None else m @ W_hr.T  # (B, P)
            h = recurrence.where_running(self.batch_sizes, t, h_new, h)
            c = recurrence.where_running(self.batch_sizes, t, c_new, c)
            y.append(h)
        return stack(y), h, c

    def forward(
        self,
        x: Array,
        h0: Array,
        c0: Array,
        W: Array,
        U: Array,
        b_ih: Array | None,
        b_hh: Array | None,
        W_hr: Array | None,
    ) -> tuple[Array, Array, Array]:
        (T, B, _), (P, H) = x.shape, (h0.shape[1], c0.shape[1])
        N = recurrence.width(B)
        runs = recurrence.runs_of_steps(T, 4 * H * N)
        keep = self.is_recorded  # if not, the gates of one run and the cells of two steps will do
        gates = empty(T if keep else runs[0].stop, 4, H, N, like=x)
        cells = empty(T + 1 if keep else 2, H, N, like=x)
        states = empty(T + 1, P, N, like=x)
        fill(states[0], h0)
        fill(cells[0], c0)
        Uh, m = empty(4 * H, N, like=x), empty(H, N, like=x)
        half, shift = _sigmoid_by_tanh(Uh)
        b = None if b_ih is None else recurrence.columns(b_ih + b_hh, N)
        xs = recurrence.steps(x, N)

        for run in runs:
            blocks = gates[run] if keep else gates[: run.stop - run.start]  # (n, 4, H, N)
            rows = blocks.reshape(len(blocks), 4 * H, N)  # the same memory
            recurrence.project(W, xs[run], out=rows)
            if b is not None:
                np.add(rows, b, out=rows)
            for t, a, (i, f, g, o) in zip(range(run.start, run.stop), rows, blocks):
                h, h_new = states[t], states[t + 1]
                c, c_new = cells[t % len(cells)], cells[(t + 1) % len(cells)]
                np.matmul(U, h, out=Uh)
                np.add(a, Uh, out=a)
                np.multiply(a, half, out=a)  # from here on, `a` holds i, f, g, o
                np.tanh(a, out=a)
                np.multiply(a, half, out=a)
                np.add(a, shift, out=a)
                np.multiply(f, c, out=c_new)
                np.multiply(i, g, out=m)
                np.add(c_new, m, out=c_new)
                np.tanh(c_new, out=m)
                if W_hr is None:
                    np.multiply(o, m, out=h_new)
                else:
                    np.multiply(o, m, out=m)
                    np.matmul(W_hr, m, out=h_new)
                if self.batch_sizes is not None:
                    recurrence.freeze(self.batch_sizes[t], (h_new, h), (c_new, c))

        if keep:
            self.residuals = gates, cells, states
        y = recurrence.swap(states[1:, :, :B])
        return y, states[T, :, :B].T.copy(), cells[T % len(cells), :, :B].T.copy()

    def vjp(
        self,
        g: Any,
        x: Array,
        h0: Array,
        c0: Array,
        W: Array,
        U: Array,
        b_ih: Array | None,
        b_hh: Array | None,
        W_hr: Array | None,
    ) -> tuple[Any, ...]:
        """Backpropagation through time; `dv` is the gradient of v, `local` what multiplies it."""
        gy, gh, gc = g
        gates, cells, states = self.residuals
        (T, _, H, N), (B, P) = gates.shape, h0.shape
        runs = recurrence.runs_of_steps(T, 4 * H * N)
        local = empty(runs[0].stop, 4, H, N, like=x)
        local_c = empty(runs[0].stop, H, N, like=x)
        da = empty(4 * H, T, B, like=x)
        dh, dc = fill(empty(P, N, like=x), gh), fill(empty(H, N, like=x), gc)
        dm = dh
        if W_hr is not None:
            dm, dh_all = empty(H, N, like=x), empty(P, T, B, like=x)
        dy = None if gy is None else recurrence.swap(gy)
        U_T = recurrence.transposed(U, B)
        dx = None
        if self.wants(0):
            dx, W_T = empty(T, x.shape[2], N, like=x), recurrence.transposed(W, B)

        for run in reversed(runs):
            n = run.stop - run.start
            blocks, rows = local[:n], local[:n].reshape(n, 4 * H, N)
            _local_derivatives(gates[run], cells[run.start : run.stop + 1], blocks, local_c[:n])
            for t in reversed(range(run.start, run.stop)):
                # We are at timestep t; dh and dc hold what comes from the steps after it.
                block, f = blocks[t - run.start], gates[t, 1]
                running = B if self.batch_sizes is None else self.batch_sizes[t]
                if dy is not None:
                    dh[:, :B] += dy[t]
                if running < B:
                    held = recurrence.set_aside(running, dh, dc)
                if W_hr is not None:  # h = W_hr m
                    dh_all[:, t] = dh[:, :B]
                    np.matmul(W_hr.T, dh, out=dm)
                np.multiply(block[3], dm, out=block[3])  # m = o tanh(c): to a_o ...
                through = local_c[t - run.start]
                np.multiply(through, dm, out=through)  # ... and to c
                np.add(dc, through, out=dc)
                np.multiply(block[:3], dc, out=block[:3])  # c = f c' + i g: to a_i, a_f, a_g ...
                np.multiply(dc, f, out=dc)  # ... and to c'
                np.matmul(U_T, rows[t - run.start], out=dh)  # a = W x + U h' + b: to h'
                if running < B:
                    recurrence.put_back(running, held, dh, dc)
            da[:, run] = rows[:, :, :B].transpose(1, 0, 2)
            if dx is not None:
                recurrence.project(W_T, rows, out=dx[run])  # a = W x + U h' + b: to x

        gW = gU = gb = gW_hr = None
        if self.wants(3):
            gW = recurrence.weight_gradient(da, x)
        if self.wants(4):
            gU = recurrence.weight_gradient(da, recurrence.swap(states[:-1, :, :B]))
        if self.wants(5) or self.wants(6):
            gb = da.reshape(4 * H, -1).sum(1)
        if W_hr is not None and self.wants(7):
            m = gates[:, 3] * np.tanh(cells[1:])
            gW_hr = recurrence.weight_gradient(dh_all, recurrence.swap(m[:, :, :B]))
        gx = None if dx is None else recurrence.swap(dx[:, :, :B])
        return gx, dh[:, :B].T, dc[:, :B].T, gW, gU, gb, gb, gW_hr


def _sigmoid_by_tanh(a: Array) -> tuple[Array, Array]:
    """Scale and shift with which one tanh serves all gates, (4H, N) each.

    sigmoid(a) = tanh(a / 2) / 2 + 1 / 2, which cannot overflow; tanh(a) = tanh(1 a) 1 + 0.
    """
    scale, shift = np.full_like(a, 0.5), np.full_like(a, 0.5)
    H = len(a) // 4
    scale[2 * H : 3 * H], shift[2 * H : 3 * H] = 1, 0
    return scale, shift


def _local_derivatives(gates: Array, cells: Array, local: Array, local_c: Array) -> None:
    """What the gradients are multiplied with on their way through some steps, for all at once.

    local (n, 4, H, N) has dc/da_i, dc/da_f, dc/da_g and dm/da_o, local_c (n, H, N) has dm/dc.
    """
    i, _, g, o = gates.swapaxes(0, 1)
    to_i, to_f, to_g, to_o = local.swapaxes(0, 1)
    np.multiply(gates, gates, out=local)
    np.subtract(gates[:, :2], local[:, :2], out=local[:, :2])  # sigmoid' = s - s^2
    np.subtract(1, to_g, out=to_g)  # tanh' = 1 - g^2
    np.subtract(o, to_o, out=to_o)
    np.tanh(cells[1:], out=local_c)
    np.multiply(to_i, g, out=to_i)  # c = f c' + i g
    np.multiply(to_f, cells[:-1], out=to_f)
    np.multiply(to_g, i, out=to_g)
    np.multiply(to_o, local_c, out=to_o)  # m = o tanh(c)
    np.multiply(local_c, local_c, out=local_c)
    np.subtract(1, local_c, out=local_c)
    np.multiply(local_c, o, out=local_c)
