"""The LSTM over a whole sequence, as one op (Hochreiter and Schmidhuber 1997; Gers et al. 2000).

`LSTM.twin` is the definition; `forward` and `vjp` compute the same, faster.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.autograd.engine import Array
from minigrad.cuda import recurrent as kernel
from minigrad.fused import recurrence, single
from minigrad.fused.recurrence import empty, fill, scratch, taken
from minigrad.ops.shape import stack


class LSTM(recurrence.Recurrent):
    """One layer, in one direction.  With h' and c' the states of the step before,

        a = W x + b_ih + U h' + b_hh
        i, f, g, o = sigmoid(a_i), sigmoid(a_f), tanh(a_g), sigmoid(a_o)
        c = f c' + i g
        m = o tanh(c)
        h = m, or W_hr m if there is a projection

    Takes x (T, B, D), h0 (B, P) and c0 (B, H) or None for zeros, W (4H, D), U (4H, P), b_ih and
    b_hh (4H) or None, W_hr (P, H) or None (then P = H).  Gives y (T, B, P), the h of every step,
    and the last h and c.
    With `batch_sizes`, only the first batch_sizes[t] sequences still run at step t.
    """

    def twin(
        self, x: Any, h0: Any, c0: Any, W: Any, U: Any, b_ih: Any, b_hh: Any, W_hr: Any
    ) -> tuple[Any, Any, Any]:
        """The same, step by step, from primitive ops."""
        h, c = recurrence.start(x, h0, U.shape[1]), recurrence.start(x, c0, len(U) // 4)
        y = []
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
        return stack(y), self.state(h), self.state(c)

    def forward(
        self,
        x: Array,
        h0: Array | None,
        c0: Array | None,
        W: Array,
        U: Array,
        b_ih: Array | None,
        b_hh: Array | None,
        W_hr: Array | None,
    ) -> tuple[Array, Array, Array]:
        if type(x) is not np.ndarray:
            done = kernel.forward(self, "lstm", x, h0, c0, W, U, b_ih, b_hh, W_hr)
            if done is not None:
                return done
        (T, B, _), P, H = x.shape, U.shape[1], len(U) // 4
        if W_hr is None and single.fits(x):
            return _forward_single(self, x, h0, c0, W, U, b_ih, b_hh)
        N = recurrence.lanes(B)
        runs = recurrence.runs_of_steps(T, 4 * H * N)
        keep = self.is_recorded  # if not, one run's gates and cells will do
        kept = []
        states = empty(T + 1, P, N, like=x)
        fill(states[0], h0)
        c_new = fill(empty(H, N, like=x), c0)
        Uh, m = empty(4 * H, N, like=x), empty(H, N, like=x)
        half, shift = _sigmoid_by_tanh(x)
        times_U = recurrence.times(U, N)
        times_W_hr = None if W_hr is None else recurrence.times(W_hr, N)
        b = None if b_ih is None else b_ih + b_hh
        xs = recurrence.padded(x)

        for run in runs:
            n = run.stop - run.start
            gates = recurrence.kept_or_lent("gates", keep, n, 4, H, N, like=x)
            cells = recurrence.kept_or_lent("cells", keep, n + 1, H, N, like=x)
            cells[0] = c_new
            rows = gates.reshape(n, 4 * H, N)  # the same memory
            recurrence.project(W, b, xs[run], rows)
            h_before, h_after = states[run], states[1:][run]
            blocks = rows, gates, *gates.swapaxes(0, 1)
            views = zip(*blocks, cells, cells[1:], h_before, h_after)
            for t, (a, ifgo, i, f, g, o, c, c_new, h, h_new) in enumerate(views, run.start):
                times_U(h, Uh)
                a += Uh
                ifgo *= half  # the same memory as `a`
                np.tanh(a, a)
                ifgo *= half
                ifgo += shift
                np.multiply(f, c, c_new)
                np.multiply(i, g, m)
                c_new += m
                np.tanh(c_new, m)
                if times_W_hr is None:
                    np.multiply(o, m, h_new)
                else:
                    np.multiply(o, m, m)
                    times_W_hr(m, h_new)
                if self.batch_sizes is not None and self.batch_sizes[t] < B:
                    recurrence.freeze(self.batch_sizes[t], (h_new, h), (c_new, c))
            kept.append((gates, cells))

        if keep:
            self.residuals = kept, states
        y = recurrence.outside(states[1:], B)
        h, c = taken(states[T], B).copy(), taken(c_new, B).copy()
        return y, self.state(h), self.state(c)

    def vjp(
        self,
        g: Any,
        x: Array,
        h0: Array | None,
        c0: Array | None,
        W: Array,
        U: Array,
        b_ih: Array | None,
        b_hh: Array | None,
        W_hr: Array | None,
    ) -> tuple[Any, ...]:
        """Backpropagation through time; `dv` is the gradient of v, `local` what multiplies it."""
        if isinstance(self.residuals, kernel.Saved):
            wanted = tuple(map(self.wants, range(8)))
            gx, gh0, gc0, *others = kernel.backward(self.residuals, g, x, h0, W, U, wanted, W_hr)
            return gx, self.state(gh0), self.state(gc0), *others
        if isinstance(self.residuals, _Space):
            return *_vjp_single(self, g, x, W, U, b_ih), None
        gy, gh, gc = g
        kept, states = self.residuals
        (T, B, _), H, (P, N) = x.shape, len(U) // 4, states.shape[1:]
        runs = recurrence.runs_of_steps(T, 4 * H * N)
        local = scratch("local", runs[0].stop, 4, H, N, like=x)
        local_c = scratch("local_c", runs[0].stop, H, N, like=x)
        dh, dc = fill(empty(P, N, like=x), gh), fill(empty(H, N, like=x), gc)
        dm = dh
        if W_hr is not None:
            dm, dhs = empty(H, N, like=x), empty(T, P, N, like=x)
            times_W_hr_T = recurrence.times(W_hr.T, N)
        dy = states[1:] if gy is None else recurrence.inside(gy)  # the states: in place of nothing
        dh_used = dh[:, :B]  # without spare columns
        times_U_T = recurrence.times(recurrence.transposed(U), N)
        da_all = scratch("da", 4 * H, T, B, like=x)

        for run, (gates, cells) in zip(reversed(runs), reversed(kept)):
            n = run.stop - run.start
            blocks, through = local[:n], local_c[:n]
            rows = blocks.reshape(n, 4 * H, N)
            by_gate = gates.swapaxes(0, 1), cells[:-1], cells[1:], blocks.swapaxes(0, 1)
            _local_derivatives(*by_gate, through)
            t = run.stop
            views = (blocks[:, :3], blocks[:, 3], through, gates[:, 1], rows, dy[run])
            for to_ifg, to_o, to_c, f, da, dy_t in zip(*[v[::-1] for v in views]):
                # We are at timestep t; dh and dc hold what comes from the steps after it.
                t -= 1
                running = B if self.batch_sizes is None else self.batch_sizes[t]
                if gy is not None:
                    dh_used += dy_t
                if running < B:
                    held = recurrence.set_aside(running, dh, dc)
                if W_hr is not None:  # h = W_hr m
                    dhs[t] = dh
                    times_W_hr_T(dh, dm)
                to_o *= dm  # m = o tanh(c): to a_o ...
                to_c *= dm  # ... and to c
                dc += to_c
                to_ifg *= dc  # c = f c' + i g: to a_i, a_f, a_g ...
                dc *= f  # ... and to c'
                times_U_T(da, dh)  # a = W x + U h' + b: to h'
                if running < B:
                    recurrence.put_back(running, held, dh, dc)
            da_all[:, run] = rows[:, :, :B].swapaxes(0, 1)

        da_all = da_all.reshape(4 * H, T * B)  # a = W x + U h' + b: to W, U, b and x
        gx = gW_hr = None
        if self.wants(0):
            gx = np.matmul(da_all.T, W).reshape(x.shape)
        room = recurrence.room_for_gradients(self, W, U, b_ih)
        gW, gU, *gb = room.parts
        if self.wants(3):
            np.matmul(da_all, recurrence.columns("x", x).T, gW)
        if self.wants(4):
            before = recurrence.outside(states[:-1], B)
            np.matmul(da_all, recurrence.columns("x", before).T, gU)
        if gb:
            np.sum(da_all, 1, out=gb[0])
            gb[1][...] = gb[0]
        if W_hr is not None and self.wants(7):  # h = W_hr m
            m = np.concatenate([gates[:, 3] * np.tanh(cells[1:]) for gates, cells in kept])
            dh_all = recurrence.columns("dh", recurrence.outside(dhs, B))
            gW_hr = np.matmul(dh_all, recurrence.columns("x", recurrence.outside(m, B)).T)
        gh0 = None if h0 is None else self.state(taken(dh, B))
        gc0 = None if c0 is None else self.state(taken(dc, B))
        return gx, gh0, gc0, *recurrence.gradients(self, room, 3), gW_hr


def _sigmoid_by_tanh(like: Array) -> tuple[Array, Array]:
    """Scale and shift with which one tanh serves the four gates of a step: (4, 1, 1) each.

    sigmoid(a) = tanh(a / 2) / 2 + 1 / 2, which cannot overflow; tanh(a) = tanh(1 a) 1 + 0.
    """
    both = empty(2, 4, 1, 1, like=like)
    both[...] = 0.5
    both[0, 2], both[1, 2] = 1, 0
    return both[0], both[1]


def _local_derivatives(gates: Array, c: Array, c_new: Array, local: Array, local_c: Array) -> None:
    """What the gradients are multiplied with on their way through some steps, for all at once.

    gates (4, ...).  local, likewise, gets dc/da_i, dc/da_f, dc/da_g and dm/da_o, local_c dm/dc.
    """
    i, _, g, o = gates
    to_i, to_f, to_g, to_o = local
    np.multiply(gates, gates, local)
    np.subtract(gates[:2], local[:2], local[:2])  # sigmoid' = s - s^2
    np.subtract(1, to_g, to_g)  # tanh' = 1 - g^2
    np.subtract(o, to_o, to_o)
    np.tanh(c_new, local_c)
    to_i *= g  # c = f c' + i g
    to_f *= c
    to_g *= i
    to_o *= local_c  # m = o tanh(c)
    local_c *= local_c
    np.subtract(1, local_c, local_c)
    local_c *= o


# --- one sequence on the CPU (see single.py) ------------------------------------------------------


class _Space(single.Space):
    """A step has six blocks, c' i f g o m with m = tanh(c), and c is the first of the next step's.

    So (f, g) times (c', i), in one call, gives both terms of c.
    """

    blocks = 4

    def __init__(self, T: int, H: int, D: int, biased: bool, dtype: np.dtype[Any]) -> None:
        super().__init__(T, H, D, biased, dtype)
        cells = np.empty((6 * T + 1, H), dtype)
        steps = cells[:-1].reshape(T, 6 * H)
        self.gates, self.c = cells[:-1].reshape(T, 6, H), cells[::6]
        self.terms = np.empty(2 * H, dtype)
        self.f_c, self.g_i = self.terms[:H], self.terms[H:]
        self.half, self.shift = (v.repeat(H) for v in _sigmoid_by_tanh(cells))
        ci, fg, self.a = steps[:, : 2 * H], steps[:, 2 * H : 4 * H], steps[:, H : 5 * H]
        o, m = self.gates[:, 4], self.gates[:, 5]
        self.steps = list(zip(self.products(), self.a, fg, ci, self.c[1:], o, m, self.states[1:]))

        # Six blocks, too: the gradient of c', those of a_i a_f a_g a_o, and what o tanh(c) adds to
        # that of c.  The first is at hand for the step before.
        self.local, self.dc = np.empty((T + 1, 6, H), dtype), np.empty(H, dtype)
        self.da = self.local[:-1].reshape(T, 6 * H)[:, H : 5 * H]
        views = self.local[:, 4], self.local[:, 5], self.local[1:, 0], self.local[:, :4], self.da
        self.back = list(zip(*views))[::-1]

        # For the local derivatives: block by block, (6, n, H), is faster than step by step.
        runs = recurrence.runs_of_steps(T, 16 * H)
        blocks, slopes = np.empty((2, 6, runs[0].stop, H), dtype)
        ones, self.runs = np.ones_like(slopes[1:]), []
        ones[2::2] = 0
        for run in runs:
            n = run.stop - run.start
            x, y = blocks[:, :n], slopes[:, :n]
            products = [(y[1 + i], x[j]) for i, j in enumerate((3, 0, 1, 5, 4))]
            by_step = self.gates[run].swapaxes(0, 1), self.local[run].swapaxes(0, 1)
            self.runs.append((*by_step, x, x[1:], ones[:, :n], y, y[1:], y[3::2], products))


def _forward_single(
    op: LSTM, x: Array, h0: Any, c0: Any, W: Array, U: Array, b_ih: Any, b_hh: Any
) -> tuple[Array, ...]:
    """`LSTM.forward` for one sequence, without a projection."""
    H = U.shape[1]
    space = single.lend(_Space, len(x), H, W.shape[1], b_ih is not None, x.dtype)
    space.begin(x, h0)
    space.c[0] = 0 if c0 is None else c0
    J, Uh = space.weights(recurrence.in_one(op, W, U, b_ih, b_hh), space.a)
    half, shift = space.half, space.shift
    terms, f_c, g_i = space.terms, space.f_c, space.g_i
    multiply, add, tanh = np.multiply, np.add, np.tanh
    for times, a, fg, ci, c_new, o, m, h_new in space.steps:  # `a` becomes the gates i f g o
        if Uh is None:
            times(J, a)
        else:
            times(J, Uh)
            a += Uh
        a *= half
        tanh(a, a)
        a *= half
        a += shift
        multiply(fg, ci, terms)
        add(f_c, g_i, c_new)
        tanh(c_new, m)
        multiply(o, m, h_new)
    return *space.finish(op), op.state(space.c[-1:].copy())


def _vjp_single(
    op: LSTM, g: Any, x: Array, W: Array, U: Array, b_ih: Array | None
) -> tuple[Array | None, ...]:
    """`LSTM.vjp` for one sequence."""
    gy, gh, gc = g
    space: _Space = op.residuals
    dys = space.begin_backward(gy, gh)
    dh, dc = space.dh, space.dc
    space.local[-1, 0] = 0 if gc is None else gc
    for gates, local, blocks, ifgom, ones, all_slopes, slopes, of_tanh, products in space.runs:
        blocks[...] = gates
        all_slopes[0] = blocks[2]  # c = f c' + i g: to c'
        np.subtract(ones, ifgom, slopes)
        slopes *= ifgom  # sigmoid' = (1 - s) s
        of_tanh += 1  # tanh' = (0 - t) t + 1
        for slope, factor in products:  # c = f c' + i g, h = o m: times g c' i, and m o
            slope *= factor
        local[...] = all_slopes
    times_U_T = U.T.dot
    first = None if op.wants(1) else space.back[-1][-1]  # needs no product: h0 wants none
    for dy, (to_o, to_c, dc_after, to_cifg, da) in zip(dys, space.back):
        # We are at timestep t; dh and dc_after hold what comes from the steps after it.
        if dy is not None:
            dh += dy
        to_o *= dh  # h = o tanh(c): to a_o ...
        to_c *= dh  # ... and to c
        np.add(dc_after, to_c, dc)
        to_cifg *= dc  # c = f c' + i g: to c', a_i, a_f, a_g
        if da is not first:
            times_U_T(da, dh)  # a = W x + U h' + b: to h'
    room = recurrence.room_for_gradients(op, W, U, b_ih, is_single=True)
    np.matmul(space.rows[:-1].T, space.da, room.array)  # np.dot would clear `out` first
    return (
        space.da.dot(W)[:, None] if op.wants(0) else None,
        op.state(dh[None].copy()) if op.wants(1) else None,
        op.state(space.local[:1, 0].copy()) if op.wants(2) else None,
        *recurrence.gradients(op, room),
    )
