"""The GRU over a whole sequence, as one op (Cho et al. 2014; the variant of cuDNN and PyTorch).

`GRU.twin` is the definition; `forward` and `vjp` compute the same, faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minigrad.autograd.engine import Array, Op
from minigrad.fused import recurrence
from minigrad.fused.recurrence import empty, fill
from minigrad.ops.shape import stack


class GRU(Op):
    """One layer, in one direction.  With h' the state of the step before,

        r = sigmoid(W_r x + b_ir + U_r h' + b_hr)
        z = sigmoid(W_z x + b_iz + U_z h' + b_hz)
        q = U_n h' + b_hn
        n = tanh(W_n x + b_in + r q)
        h = (1 - z) n + z h'

    Takes x (T, B, D), h0 (B, H), W (3H, D), U (3H, H), b_ih and b_hh (3H) or None, each in the
    order r, z, n.  Gives y (T, B, H), the h of every step, and the last h.
    With `batch_sizes`, only the first batch_sizes[t] sequences still run at step t.
    """

    def __init__(self, batch_sizes: Sequence[int] | None = None) -> None:
        self.batch_sizes = batch_sizes

    def twin(self, x: Any, h0: Any, W: Any, U: Any, b_ih: Any, b_hh: Any) -> tuple[Any, Any]:
        """The same, step by step, from primitive ops."""
        h, y = h0, []
        for t in range(len(x)):
            Wx, Uh = x[t] @ W.T, h @ U.T  # (B, 3H)
            if b_ih is not None:
                Wx, Uh = Wx + b_ih, Uh + b_hh
            (r_x, z_x, n_x), (r_h, z_h, q) = Wx.chunk(3, 1), Uh.chunk(3, 1)
            r = (r_x + r_h).sigmoid()
            z = (z_x + z_h).sigmoid()
            n = (n_x + r * q).tanh()
            h_new = (1 - z) * n + z * h
            h = recurrence.where_running(self.batch_sizes, t, h_new, h)
            y.append(h)
        return stack(y), h

    # A step has four blocks of rows, r z q n.  The first three belong to U h', and with n in place
    # of q they belong to W x.

    def forward(
        self, x: Array, h0: Array, W: Array, U: Array, b_ih: Array | None, b_hh: Array | None
    ) -> tuple[Array, Array]:
        (T, B, _), H = x.shape, h0.shape[1]
        N = recurrence.width(B)
        runs = recurrence.runs_of_steps(T, 4 * H * N)
        keep = self.is_recorded  # if not, the gates of one run will do
        gates = empty(T if keep else runs[0].stop, 4, H, N, like=x)
        states = empty(T + 1, H, N, like=x)
        fill(states[0], h0)
        Uh = empty(3 * H, N, like=x)
        b = None if b_ih is None else _bias_of_blocks(b_ih, b_hh, N)
        xs = recurrence.steps(x, N)

        for run in runs:
            blocks = gates[run] if keep else gates[: run.stop - run.start]  # (n, 4, H, N)
            rows = blocks.reshape(len(blocks), 4 * H, N)  # the same memory
            recurrence.project(W[: 2 * H], xs[run], out=rows[:, : 2 * H])
            rows[:, 2 * H : 3 * H] = 0
            recurrence.project(W[2 * H :], xs[run], out=rows[:, 3 * H :])
            if b is not None:
                np.add(rows, b, out=rows)
            for t, a, (r, z, q, n) in zip(range(run.start, run.stop), rows, blocks):
                h, h_new = states[t], states[t + 1]
                rz, rzq = a[: 2 * H], a[: 3 * H]
                np.matmul(U, h, out=Uh)
                np.add(rzq, Uh, out=rzq)
                np.multiply(rz, 0.5, out=rz)  # sigmoid(a) = tanh(a / 2) / 2 + 1 / 2
                np.tanh(rz, out=rz)
                np.multiply(rz, 0.5, out=rz)
                np.add(rz, 0.5, out=rz)
                np.multiply(r, q, out=h_new)
                np.add(n, h_new, out=n)
                np.tanh(n, out=n)
                np.subtract(h, n, out=h_new)  # h = n + z (h' - n)
                np.multiply(z, h_new, out=h_new)
                np.add(n, h_new, out=h_new)
                if self.batch_sizes is not None:
                    recurrence.freeze(self.batch_sizes[t], (h_new, h))

        if keep:
            self.residuals = gates, states
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
        """Backpropagation through time; `dv` is the gradient of v, `local` what multiplies it."""
        gy, gh = g
        gates, states = self.residuals
        (T, _, H, N), B = gates.shape, len(h0)
        runs = recurrence.runs_of_steps(T, 4 * H * N)
        local = empty(runs[0].stop, 4, H, N, like=x)
        da = empty(4 * H, T, B, like=x)
        dh, U_da = fill(empty(H, N, like=x), gh), empty(H, N, like=x)
        dy = None if gy is None else recurrence.swap(gy)
        U_T = recurrence.transposed(U, B)
        dx = None
        if self.wants(0):
            dx, W_T = empty(T, x.shape[2], N, like=x), recurrence.transposed(W, B)

        for run in reversed(runs):
            blocks = local[: run.stop - run.start]  # (n, 4, H, N)
            rows = blocks.reshape(len(blocks), 4 * H, N)
            _local_derivatives(gates[run], states[run], blocks)
            for t in reversed(range(run.start, run.stop)):
                # We are at timestep t; dh holds what comes from the steps after it.
                block, z = blocks[t - run.start], gates[t, 1]
                running = B if self.batch_sizes is None else self.batch_sizes[t]
                if dy is not None:
                    dh[:, :B] += dy[t]
                if running < B:
                    held = recurrence.set_aside(running, dh)
                np.multiply(block[1::2], dh, out=block[1::2])  # h = (1 - z) n + z h': to a_z, a_n
                np.multiply(block[::2], block[3], out=block[::2])  # a_n = ... + r q: to a_r, q
                np.multiply(dh, z, out=dh)  # h = (1 - z) n + z h': to h'
                np.matmul(U_T, rows[t - run.start, : 3 * H], out=U_da)  # a = ... + U h': to h'
                np.add(dh, U_da, out=dh)
                if running < B:
                    recurrence.put_back(running, held, dh)
            da[:, run] = rows[:, :, :B].transpose(1, 0, 2)
            if dx is not None:  # a = W x + ...: to x
                blocks[:, 2] = blocks[:, 3]
                recurrence.project(W_T, rows[:, : 3 * H], out=dx[run])

        gW = gU = gb_ih = gb_hh = None
        da_h = da_x = da[: 3 * H]
        if self.wants(3):
            gU = recurrence.weight_gradient(da_h, recurrence.swap(states[:-1, :, :B]))
        if self.wants(5):
            gb_hh = da_h.reshape(3 * H, -1).sum(1)
        da_x[2 * H :] = da[3 * H :]  # n in place of q
        if self.wants(2):
            gW = recurrence.weight_gradient(da_x, x)
        if self.wants(4):
            gb_ih = da_x.reshape(3 * H, -1).sum(1)
        gx = None if dx is None else recurrence.swap(dx[:, :, :B])
        return gx, dh[:, :B].T, gW, gU, gb_ih, gb_hh


def _bias_of_blocks(b_ih: Array, b_hh: Array, N: int) -> Array:
    """What is added to the blocks r z q n of every step: (4H, N)."""
    H = len(b_ih) // 3
    b = np.concatenate([b_ih[: 2 * H] + b_hh[: 2 * H], b_hh[2 * H :], b_ih[2 * H :]])
    return recurrence.columns(b, N)


def _local_derivatives(gates: Array, before: Array, local: Array) -> None:
    """What the gradients are multiplied with on their way through some steps, for all at once.

    With `before` the states h', local (n, 4, H, N) has da_n/da_r, dh/da_z, da_n/dq and dh/da_n.
    """
    r, z, q, n = gates.swapaxes(0, 1)
    to_r, to_z, to_q, to_n = local.swapaxes(0, 1)
    np.subtract(before, n, out=to_q)
    np.multiply(z, z, out=to_z)
    np.subtract(z, to_z, out=to_z)  # sigmoid' = z - z^2
    np.multiply(to_z, to_q, out=to_z)  # h = (1 - z) n + z h'
    np.multiply(r, r, out=to_r)
    np.subtract(r, to_r, out=to_r)
    np.multiply(to_r, q, out=to_r)  # a_n = W_n x + b_in + r q
    np.subtract(1, z, out=to_q)
    np.multiply(n, n, out=to_n)
    np.subtract(1, to_n, out=to_n)  # tanh' = 1 - n^2
    np.multiply(to_n, to_q, out=to_n)
    to_q[...] = r
