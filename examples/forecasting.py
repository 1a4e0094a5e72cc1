"""Forecast a series with an LSTM, and compare with what needs no model at all.

    python -m examples.forecasting                                   airline passengers
    python -m examples.forecasting --csv sales.csv --column total    your own series
    python -m examples.forecasting --recipe tutorial                 as tutorials do it

The last values of the series are held out: the model never sees them, and its forecasts of them
are made one after the other, each fed back to forecast the next.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

import minigrad as mg
from examples import cli
from minigrad import optim
from minigrad.autograd.engine import Array
from minigrad.data import series
from minigrad.data.flights import flights
from minigrad.training import DivergenceError, Trainer
from models.forecaster import Config, Forecaster

PROG = "python -m examples.forecasting"
NETWORKS = 3  # of the default recipe: their mean is steadier than any one of them
UPDATES = 800  # of each


def fit(
    x: Array, y: Array, given: argparse.Namespace, batch: int, epochs: int, what: str
) -> Forecaster:
    """A model that was trained to say the value y (N,) that follows each window x (N, T)."""
    model = Forecaster(Config(given.hidden)).to(given.device)
    optimizer = optim.Adam(model.parameters(), lr=given.lr)
    windows = mg.tensor(np.ascontiguousarray(x), dtype=mg.float32, device=given.device)
    labels = mg.tensor(np.ascontiguousarray(y), dtype=mg.float32, device=given.device)
    in_order = given.recipe == "tutorial"
    per_epoch = -(-len(x) // batch)
    steps = epochs * per_epoch
    scheduler = optim.lr_scheduler.LambdaLR(
        optimizer, lambda n: 1.0 if in_order else (1 + math.cos(math.pi * min(1, n / steps))) / 2
    )
    order: list[Array] = []

    def step() -> mg.Tensor:
        if not order:
            epoch = mg.arange(len(x)) if in_order else mg.randperm(len(x))
            order.extend(np.array_split(epoch.numpy(), per_epoch))
        picked = order.pop(0)
        loss = ((model(windows[picked]) - labels[picked]) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        return loss

    print(
        f"{what}: {len(x)} windows of {x.shape[1]}, {epochs} times, {steps:,} updates", flush=True
    )
    if not Trainer(step, {"model": model}, steps=steps).run():
        print("stopped: nothing was written")
        raise KeyboardInterrupt
    return model


@mg.no_grad()
def roll_out(predict: Callable[[Array], float], history: Array, window: int, steps: int) -> Array:
    """`steps` values after `history`, each predicted from the `window` values before it."""
    values = list(history[-window:])
    for _ in range(steps):
        values.append(predict(np.array(values[-window:])))
    return np.array(values[window:])


def tutorial_recipe(train: Array, given: argparse.Namespace) -> Array:
    """Training values scaled to (-1, 1), windows in order, one at a time; no thought of seasons."""
    scaler = series.Scaler(train, -1, 1)
    scaled = scaler.scale(train)
    x, y = series.windows(scaled, given.window)
    model = fit(x, y, given, batch=1, epochs=given.epochs or 150, what="one network")
    forecast = roll_out(lambda w: read(model, w), scaled, given.window, given.horizon)
    return scaler.unscale(forecast)


def default_recipe(train: Array, given: argparse.Namespace) -> Array:
    """What the seasons and the growth leave for the network to learn is small and steady.

    1. Logarithms, if all values are positive: growth by a factor becomes growth by a step.
    2. Of a long season (days in a year) the mean profile is taken out; a short one fits into the
       window, and the network learns it.
    3. If the series wanders, the mean of each window is subtracted from it and from the value that
       follows: a level never seen in training is then like any other.  If it keeps coming back to
       its mean, that is subtracted instead.
    4. The forecasts of several networks, which differ in their initial weights, are averaged.
    """
    positive = bool((train > 0).all())
    values = np.log(train) if positive else train
    profile = np.zeros(given.season)
    if given.season > given.window:
        profile = seasonal_profile(values, given.season)
    phases = np.arange(len(values) + given.horizon) % given.season
    values = values - profile[phases[: len(values)]]
    mean = None if wanders(values, given.window, given.horizon) else values.mean()

    def level(windows: Array) -> Array:
        return windows.mean(-1) if mean is None else np.full(windows.shape[:-1], mean)

    x, y = series.windows(values, given.window)
    levels = level(x)
    spread = float((x - levels[:, None]).std()) or 1.0
    x, y = (x - levels[:, None]) / spread, (y - levels) / spread
    batch = 16 if len(x) < 1000 else 64
    epochs = given.epochs or max(1, round(UPDATES * batch / len(x)))
    forecasts = []
    for i in range(NETWORKS):
        model = fit(x, y, given, batch, epochs, f"network {i + 1} of {NETWORKS}")

        def predict(window: Array, model: Forecaster = model) -> float:
            return read(model, (window - level(window)) / spread) * spread + float(level(window))

        forecasts.append(roll_out(predict, values, given.window, given.horizon))
    forecast = np.mean(forecasts, 0) + profile[phases[len(values) :]]
    return np.exp(forecast) if positive else forecast


def read(model: Forecaster, window: Array) -> float:
    """The next value after one window."""
    device = model.output.weight.device
    return float(model(mg.tensor(window, dtype=mg.float32, device=device).unsqueeze(0)).item())


def wanders(values: Array, window: int, horizon: int) -> bool:
    """Whether the mean of a window foretells the value `horizon` later better than that of all."""
    later = values[window + horizon - 1 :]
    means = series.windows(values, window)[0].mean(1)[: len(later)]
    return bool(np.square(later - means).mean() < np.square(later - values.mean()).mean())


def seasonal_profile(values: Array, season: int) -> Array:
    """How far each phase of the season lies from the linear trend, smoothed along the season."""
    t = np.arange(len(values))
    rest = values - np.polyval(np.polyfit(t, values, 1), t)
    profile = np.array([rest[phase::season].mean() for phase in range(season)])
    width = 2 * (season // 24) + 1
    around = np.concatenate([profile[-width:], profile, profile[:width]])
    return np.convolve(around, np.full(width, 1 / width), "same")[width:-width]


# --- what is shown ------------------------------------------------------------------------------


def table(train: Array, truth: Array, forecasts: dict[str, Array], season: int) -> str:
    """Each forecast and how far off it is."""
    lines = [f"{'':<16}{'RMSE':>10}{'MAE':>10}{'MAPE':>10}{'MASE':>10}"]
    for name, forecast in forecasts.items():
        percentage = series.mape(truth, forecast)  # says nothing where the truth comes near 0
        columns = (
            short(series.rmse(truth, forecast)),
            short(series.mae(truth, forecast)),
            f"{percentage:.1f}%" if percentage < 1000 else "-",
            short(series.mase(truth, forecast, train, season)),
        )
        lines.append(f"{name:<16}" + "".join(f"{column:>10}" for column in columns))
    return "\n".join(lines)


def short(error: float) -> str:
    """At most 9 characters; whatever units a series has, three digits that matter."""
    return f"{error:.2f}" if 0.1 <= error < 1e6 else f"{error:.3g}"


def plot(
    path: Path,
    train: Array,
    truth: Array,
    forecasts: dict[str, Array],
    name: str,
    when: Array,
    unit: str,
) -> None:
    """History, truth and forecast over `when`, in `unit`, as a picture, if matplotlib is there."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("no picture: that needs matplotlib (pip install matplotlib)")
        return
    end = len(train)
    start = max(0, end - 8 * len(truth))
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(when[start:end], train[start:], color="0.35", label="history")
    for values, label, style in (
        (truth, "truth", {"color": "black", "linewidth": 2.0}),
        (forecasts["LSTM"], "LSTM", {"color": "tab:red", "linewidth": 2.0}),
        (forecasts["seasonal naive"], "seasonal naive", {"color": "tab:blue", "linestyle": ":"}),
    ):
        axes.plot(when[end - 1 :], [train[-1], *values], label=label, **style)
    axes.axvline(when[end - 1], color="0.7", linewidth=0.8)
    axes.set(title=f"{name}: {len(truth)} held-out values", xlabel=unit, ylabel=name)
    figure.legend(loc="outside lower center", ncols=4)  # never on top of a curve
    unfinished = path.with_name(path.name + ".part")
    try:
        figure.savefig(unfinished, format=path.suffix[1:], dpi=120)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    print(f"picture: {path}")


def verdict(rmse: float, reference: float) -> str:
    """How the model stands against last season once more, said plainly."""
    if rmse < reference:
        return (
            f"The LSTM beats seasonal naive: its RMSE is {100 * (1 - rmse / reference):.0f}% lower."
        )
    if rmse == reference:
        return "The LSTM does NOT beat seasonal naive: their RMSE is the same."
    how_much = f"{rmse / reference:.1f} times as high" if reference else f"{rmse:.3g}, not 0"
    return (
        f"The LSTM does NOT beat seasonal naive: its RMSE is {how_much}. "
        "Repeating last season would have been the better forecast."
    )


def run(given: argparse.Namespace) -> int:
    if given.csv is None:
        if given.column is not None:
            raise ValueError("--column names a column of a file: give the file with --csv")
        values, name = flights(), "airline passengers (thousands)"
        when, unit = 1949 + np.arange(len(values)) / 12, "year"
    else:
        values, name, when, unit = series.read_csv(given.csv, given.column)
    tutorial = given.recipe == "tutorial"
    given.horizon = given.horizon or 12
    found = ""
    if not given.season:
        known = values[: -given.horizon]
        given.season = (series.find_season(known) if len(known) > 2 else None) or 1
        found = " (found in the data)" if given.season > 1 else " (none found in the data)"
    given.window = given.window or (12 if tutorial else min(30, max(12, given.season)))
    given.hidden = given.hidden or (100 if tutorial else 32)
    given.lr = given.lr or (0.001 if tutorial else 0.01)
    needed = max(given.window + 2, given.season + 1) + given.horizon
    if len(values) < needed:
        raise ValueError(
            f"the series has {len(values)} values, and a window of {given.window}, a season of "
            f"{given.season} and a horizon of {given.horizon} need {needed} (smaller ones can be "
            "given: --window, --season, --horizon)"
        )
    cli.check_writable(given.plot)
    train, truth = values[: -given.horizon], values[-given.horizon :]
    print(
        f"{name}: {len(values)} values, the last {given.horizon} held out; "
        f"season {given.season}{found}, window {given.window}, recipe {given.recipe}"
    )
    mg.manual_seed(given.seed)
    try:
        forecast = (tutorial_recipe if tutorial else default_recipe)(train, given)
        if not np.isfinite(forecast).all():
            raise DivergenceError("its forecast is not finite")
    except DivergenceError as error:
        print(
            f"{PROG}: training diverged: {error}. Try a lower learning rate: --lr {given.lr / 4:g}",
            file=sys.stderr,
        )
        return 1
    forecasts = {
        "LSTM": forecast,
        "naive": series.naive(train, given.horizon),
        "seasonal naive": series.seasonal_naive(train, given.horizon, given.season),
    }
    print("\n" + table(train, truth, forecasts, given.season) + "\n")
    errors = {name: series.rmse(truth, f) for name, f in forecasts.items()}
    print(verdict(errors["LSTM"], errors["seasonal naive"]))
    plot(given.plot, train, truth, forecasts, name, when, unit)
    return 0


def picture(argument: str) -> Path:
    """For `type=`: the name of a picture."""
    if Path(argument).suffix not in (".png", ".svg", ".pdf", ".jpg"):
        raise argparse.ArgumentTypeError(
            f"{argument!r} is no picture: expected a name that ends in .png, .svg, .pdf or .jpg"
        )
    return Path(argument)


def parser() -> cli.Parser:
    description = (__doc__ or "").strip().split("\n\n")
    result = cli.Parser(
        PROG,
        description=description[0] + "\n\n" + description[2],
        epilog=description[1],
    )

    add = result.option
    add("--csv", Path, "a file with a line of column names (default: built-in)", metavar="FILE")
    add("--column", str, "which column to forecast", metavar="NAME")
    result.add_argument(
        "--recipe",
        choices=["default", "tutorial"],
        default="default",
        help="default: seasons and growth taken care of; tutorial: scaled values, one LSTM of 100",
    )
    add("--horizon", cli.positive(int), "values to hold out and forecast (default: 12)")
    add("--season", cli.positive(int), "values in a season (default: found in the data)")
    add("--window", cli.positive(int), "past values the network reads (default: 12 to 30)")
    add("--hidden", cli.positive(int), "LSTM units (default: 32; tutorial: 100)")
    add("--epochs", cli.positive(int), "passes over the data (default: by its size; tutorial: 150)")
    add("--lr", cli.positive(float), "learning rate (default: 0.01; tutorial: 0.001)")
    add("--seed", cli.not_negative(int), "same seed, same run", default=0)
    add("--device", cli.device, "'cpu', or 'cuda' for a GPU", default="cpu", metavar="NAME")
    add("--plot", picture, "the picture", default=Path("runs/forecast.png"), metavar="FILE")
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    given = parser().parse_args(arguments)
    with cli.clear_errors(PROG):
        return run(given)


if __name__ == "__main__":
    raise SystemExit(main())
