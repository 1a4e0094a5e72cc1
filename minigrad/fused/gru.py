"""The GRU over a whole sequence, as one op (Cho et al. 2014; the variant of cuDNN and PyTorch).

`GRU.twin` is the definition; `forward` and `vjp` compute the same, faster.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.autograd.engine import Array
from minigrad.cuda import recurrent as kernel
from minigrad.fused import recurrence, single
from minigrad.fused.recurrence import empty, fill, scratch, taken
from minigrad.ops.shape import stack


class GRU(recurrence.Recurrent):
    """One layer, in one direction.  With h' the state of the step before,

        r = sigmoid(W_r x + b_ir + U_r h' + b_hr)
        z = sigmoid(W_z x + b_iz + U_z h' + b_hz)
        q = U_n h' + b_hn
        n = tanh(W_n x + b_in + r q)
        h = (1 - z) n + z h'

    Takes x (T, B, D), h0 (B, H) or None for zeros, W (3H, D), U (3H, H), b_ih and b_hh (3H) or
    None, each in the order r, z, n.  Gives y (T, B, H), the h of every step, and the last h.
    With `batch_sizes`, only the first batch_sizes[t] sequences still run at step t.
    """

    def twin(self, x: Any, h0: Any, W: Any, U: Any, b_ih: Any, b_hh: Any) -> tuple[Any, Any]:
        """The same, step by step, from primitive ops."""
        h, y = recurrence.start(x, h0, U.shape[1]), []
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
        return stack(y), self.state(h)

    # A step has four blocks of rows, r z q n.  The first three belong to U h', and with n in place
    # of q they belong to W x.

    def forward(
        self, x: Array, h0: Array | None, W: Array, U: Array, b_ih: Array | None, b_hh: Array | None
    ) -> tuple[Array, Array]:
        if type(x) is not np.ndarray:
            done = kernel.forward(self, "gru", x, h0, None, W, U, b_ih, b_hh)
            if done is not None:
                return done
        (T, B, _), H = x.shape, U.shape[1]
        if single.fits(x):
            return _forward_single(self, x, h0, W, U, b_ih, b_hh)
        N = recurrence.lanes(B)
        runs = recurrence.runs_of_steps(T, 4 * H * N)
        keep = self.is_recorded  # if not, the gates of one run will do
        steps = T if keep else runs[0].stop
        gates = recurrence.kept_or_lent("gates", keep, steps, 4, H, N, like=x)
        states = empty(T + 1, H, N, like=x)
        fill(states[0], h0)
        Uh = empty(3 * H, N, like=x)
        times_U = recurrence.times(U, N)
        b_rz: Any = None
        b_q: Any = 0
        b_n: Any = None
        if b_ih is not None and b_hh is not None:
            b_rz, b_q, b_n = b_ih[: 2 * H] + b_hh[: 2 * H], b_hh[2 * H :, None], b_ih[2 * H :]
        xs = recurrence.padded(x)

        for run in runs:
            n, first = run.stop - run.start, run.start if keep else 0
            blocks = gates[first : first + n]  # (n, 4, H, N)
            rows = blocks.reshape(n, 4 * H, N)  # the same memory
            recurrence.project(W[: 2 * H], b_rz, xs[run], rows[:, : 2 * H])
            rows[:, 2 * H : 3 * H] = b_q
            recurrence.project(W[2 * H :], b_n, xs[run], rows[:, 3 * H :])
            parts = rows[:, : 2 * H], rows[:, : 3 * H], *blocks.swapaxes(0, 1)
            views = zip(*parts, states[run], states[1:][run])
            for t, (rz, rzq, r, z, q, n, h, h_new) in enumerate(views, run.start):
                times_U(h, Uh)
                rzq += Uh
                rz *= 0.5  # sigmoid(a) = tanh(a / 2) / 2 + 1 / 2
                np.tanh(rz, rz)
                rz *= 0.5
                rz += 0.5
                np.multiply(r, q, h_new)
                n += h_new
                np.tanh(n, n)
                np.subtract(h, n, h_new)  # h = n + z (h' - n)
                h_new *= z
                h_new += n
                if self.batch_sizes is not None and self.batch_sizes[t] < B:
                    recurrence.freeze(self.batch_sizes[t], (h_new, h))

        if keep:
            self.residuals = gates, states
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
        """Backpropagation through time; `dv` is the gradient of v, `local` what multiplies it."""
        if isinstance(self.residuals, kernel.Saved):
            wanted = (*map(self.wants, (0, 1)), False, *map(self.wants, (2, 3, 4, 5)))
            gx, gh0, _, *others, _ = kernel.backward(self.residuals, g, x, h0, W, U, wanted)
            return gx, self.state(gh0), *others
        if isinstance(self.residuals, _Space):
            return _vjp_single(self, g, x, W, U, b_ih)
        gy, gh = g
        gates, states = self.residuals
        (T, B, _), (H, N) = x.shape, states.shape[1:]
        runs = recurrence.runs_of_steps(T, 4 * H * N)
        local = scratch("local", runs[0].stop, 4, H, N, like=x)
        dh, U_da = fill(empty(H, N, like=x), gh), empty(H, N, like=x)
        dh_used = dh[:, :B]  # without spare columns
        dy = states[1:] if gy is None else recurrence.inside(gy)  # the states: in place of nothing
        times_U_T = recurrence.times(recurrence.transposed(U), N)
        da_all = scratch("da", 4 * H, T, B, like=x)

        for run in reversed(runs):
            blocks = local[: run.stop - run.start]  # (n, 4, H, N)
            rows = blocks.reshape(len(blocks), 4 * H, N)
            _local_derivatives(gates[run].swapaxes(0, 1), states[run], blocks.swapaxes(0, 1))
            views = blocks[:, 1::2], blocks[:, ::2], blocks[:, 3], gates[run, 1], rows, dy[run]
            t = run.stop
            for to_zn, to_rq, da_n, z, da, dy_t in zip(*[v[::-1] for v in views]):
                # We are at timestep t; dh holds what comes from the steps after it.
                t -= 1
                running = B if self.batch_sizes is None else self.batch_sizes[t]
                if gy is not None:
                    dh_used += dy_t
                if running < B:
                    held = recurrence.set_aside(running, dh)
                to_zn *= dh  # h = (1 - z) n + z h': to a_z, a_n
                to_rq *= da_n  # a_n = ... + r q: to a_r, q
                dh *= z  # h = (1 - z) n + z h': to h'
                times_U_T(da[: 3 * H], U_da)  # a = ... + U h': to h'
                dh += U_da
                if running < B:
                    recurrence.put_back(running, held, dh)
            da_all[:, run] = rows[:, :, :B].swapaxes(0, 1)

        da_all = da_all.reshape(4 * H, T * B)
        da = da_all[: 3 * H]  # r z q: of U h' + b_hh
        room = recurrence.room_for_gradients(self, W, U, b_ih)
        gW, gU, *gb = room.parts
        if self.wants(3):
            before = recurrence.outside(states[:-1], B)
            np.matmul(da, recurrence.columns("x", before).T, gU)
        if gb:
            np.sum(da, 1, out=gb[1])
        da[2 * H :] = da_all[3 * H :]  # from here on n in place of q: of W x + b_ih
        gx = np.matmul(da.T, W).reshape(x.shape) if self.wants(0) else None
        if self.wants(2):
            np.matmul(da, recurrence.columns("x", x).T, gW)
        if gb:
            np.sum(da, 1, out=gb[0])
        gh0 = None if h0 is None else self.state(taken(dh, B))
        return gx, gh0, *recurrence.gradients(self, room, 2)


def _local_derivatives(gates: Array, before: Array, local: Array) -> None:
    """What the gradients are multiplied with on their way through some steps, for all at once.

    gates (4, ...), `before` the states h'.  local, likewise, gets da_n/da_r, dh/da_z, da_n/dq and
    dh/da_n.
    """
    r, z, q, n = gates
    to_r, to_z, to_q, to_n = local
    np.subtract(before, n, to_q)
    np.multiply(z, z, to_z)
    np.subtract(z, to_z, to_z)  # sigmoid' = z - z^2
    to_z *= to_q  # h = (1 - z) n + z h'
    np.multiply(r, r, to_r)
    np.subtract(r, to_r, to_r)
    to_r *= q  # a_n = W_n x + b_in + r q
    np.subtract(1, z, to_q)
    np.multiply(n, n, to_n)
    np.subtract(1, to_n, to_n)  # tanh' = 1 - n^2
    to_n *= to_q
    to_q[...] = r


# --- one sequence on the CPU (see single.py) ------------------------------------------------------


class _Space(single.Space):
    """A step has four blocks, r z q n: the first three belong to U h'."""

    blocks = 3

    def __init__(self, T: int, H: int, D: int, biased: bool, dtype: np.dtype[Any]) -> None:
        super().__init__(T, H, D, biased, dtype)
        self.before = self.rows[:-1, : H + biased]  # [h' 1] and [x 1]
        self.inputs = self.rows[:-1, H + biased :]
        self.gates = np.empty((T, 4, H), dtype)
        self.Wx = np.empty((T, 3 * H), dtype)
        self.half = np.full(2 * H, 0.5, dtype)  # faster than a number
        a = self.gates.reshape(T, 4 * H)
        products = self.products_of(self.rows[:, : H + biased])
        rz, rzq = a[:, : 2 * H], a[:, : 3 * H]
        xs, h = (self.Wx[:, : 2 * H], self.Wx[:, 2 * H :]), self.states
        self.steps = list(zip(products, *xs, rzq, rz, *self.gates.swapaxes(0, 1), h, h[1:]))

        self.runs = recurrence.runs_of_steps(T, 8 * H)
        self.by_gate = np.empty((2, 4, self.runs[0].stop, H), dtype)
        self.local, self.U_da = np.empty((T, 4, H), dtype), np.empty(H, dtype)
        self.da = self.local.reshape(T, 4 * H)[:, : 3 * H]
        views = self.local[:, 1::2], self.local[:, ::2], self.local[:, 3], self.gates[:, 1]
        self.back = list(zip(*views, self.da))[::-1]


def _forward_single(
    op: GRU, x: Array, h0: Any, W: Array, U: Array, b_ih: Any, b_hh: Any
) -> tuple[Array, ...]:
    """`GRU.forward` for one sequence."""
    space = single.lend(_Space, len(x), U.shape[1], W.shape[1], b_ih is not None, x.dtype)
    space.begin(x, h0)
    J, K, half = recurrence.in_one(op, W, U, b_ih, b_hh), space.before.shape[1], space.half
    np.matmul(space.inputs, J[K:], space.Wx)
    J = J[:K]
    for times, x_rz, x_n, rzq, rz, r, z, q, n, h, h_new in space.steps:
        times(J, rzq)
        rz += x_rz
        rz *= half  # sigmoid(a) = tanh(a / 2) / 2 + 1 / 2
        np.tanh(rz, rz)
        rz *= half
        rz += half
        np.multiply(r, q, n)
        n += x_n
        np.tanh(n, n)
        np.subtract(h, n, h_new)  # h = n + z (h' - n)
        h_new *= z
        h_new += n
    return space.finish(op)


def _vjp_single(
    op: GRU, g: Any, x: Array, W: Array, U: Array, b_ih: Array | None
) -> tuple[Array | None, ...]:
    """`GRU.vjp` for one sequence."""
    space: _Space = op.residuals
    dys = space.begin_backward(*g)
    dh, U_da = space.dh, space.U_da
    for run in space.runs:
        by_gate, local = space.by_gate[:, :, : run.stop - run.start]
        by_gate[...] = space.gates[run].swapaxes(0, 1)  # (4, n, H): faster than to work on these
        _local_derivatives(by_gate, space.states[run], local)
        space.local[run] = local.swapaxes(0, 1)
    times_U_T = U.T.dot
    first = None if op.wants(1) else space.back[-1][-1]  # needs no product: h0 wants none
    for dy, (to_zn, to_rq, da_n, z, da) in zip(dys, space.back):
        # We are at timestep t; dh holds what comes from the steps after it.
        if dy is not None:
            dh += dy
        to_zn *= dh  # h = (1 - z) n + z h': to a_z, a_n
        to_rq *= da_n  # a_n = ... + r q: to a_r, q
        if da is not first:
            dh *= z  # h = (1 - z) n + z h': to h'
            times_U_T(da, U_da)  # a = ... + U h': to h'
            dh += U_da
    da, by_step, K = space.da, space.local, space.before.shape[1]
    room = recurrence.room_for_gradients(op, W, U, b_ih, is_single=True)
    np.matmul(space.before.T, da, room.array[:K])  # np.dot would clear `out` first
    by_step[:, 2] = by_step[:, 3]  # from here on n in place of q
    np.matmul(space.inputs.T, da, room.array[K:])
    return (
        da.dot(W)[:, None] if op.wants(0) else None,
        op.state(dh[None].copy()) if op.wants(1) else None,
        *recurrence.gradients(op, room),
    )
