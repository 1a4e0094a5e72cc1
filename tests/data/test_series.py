"""Scales, windows, baselines, errors and CSV files."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minigrad.data import series
from minigrad.data.flights import flights

values = hnp.arrays(np.float64, st.integers(1, 30), elements=st.floats(-1e6, 1e6, width=32))


@given(values, st.floats(-5, 0), st.floats(0.5, 5))
def test_scaler_reaches_both_ends_and_comes_back(x, low, high):
    scaler = series.Scaler(x, low, high)
    y = scaler.scale(x)
    span = x.max() - x.min()
    np.testing.assert_allclose(scaler.unscale(y), x, atol=1e-6 * (1 + np.abs(x).max()))
    if span > 1e-3:
        np.testing.assert_allclose([y.min(), y.max()], [low, high], atol=1e-6)
        beyond = scaler.scale(x.max() + span)  # what training never saw is not clipped
        np.testing.assert_allclose(beyond, 2 * high - low, atol=1e-5)


@given(values, st.integers(1, 8))
def test_windows(x, length):
    if len(x) <= length:
        with pytest.raises(ValueError, match="no window"):
            series.windows(x, length)
        return
    runs, after = series.windows(x, length)
    assert runs.shape == (len(x) - length, length)
    for i, (run, label) in enumerate(zip(runs, after, strict=True)):
        np.testing.assert_array_equal([*run, label], x[i : i + length + 1])


def test_flights():
    x = flights()
    assert (len(x), x.sum(), x[0], x[-1]) == (144, 40363, 112, 432)


def test_baselines_and_errors_on_flights():
    train, truth = flights()[:-12], flights()[-12:]
    forecast = series.seasonal_naive(train, 12, 12)
    np.testing.assert_array_equal(forecast, train[-12:])
    assert round(series.rmse(truth, forecast), 1) == 50.7
    assert round(series.mape(truth, forecast), 1) == 10.0
    np.testing.assert_array_equal(series.naive(train, 3), [405, 405, 405])
    np.testing.assert_array_equal(series.seasonal_naive(np.arange(5), 5, 2), [3, 4, 3, 4, 3])
    with pytest.raises(ValueError, match="no season of 6"):
        series.seasonal_naive(np.arange(5), 5, 6)


def test_errors_by_hand():
    truth, forecast = np.array([1.0, 2.0, 4.0]), np.array([2.0, 2.0, 2.0])
    assert series.rmse(truth, forecast) == pytest.approx(math.sqrt(5 / 3))
    assert series.mae(truth, forecast) == 1
    assert series.mape(truth, forecast) == pytest.approx(50)
    assert series.mape(np.array([0.0, 1.0]), np.ones(2)) == math.inf
    assert series.mase(truth, forecast, np.array([0.0, 2.0, 4.0])) == 0.5
    assert series.mase(truth, forecast, np.array([0.0, 2.0, 4.0, 2.0]), 2) == 0.5
    assert series.mase(truth, forecast, np.ones(5)) == math.inf
    with pytest.raises(ValueError, match="season of 3"):
        series.mase(truth, forecast, np.ones(3), 3)


@given(st.sampled_from([4, 7, 12, 52]), st.integers(0, 5), st.floats(-0.5, 0.5))
def test_a_season_is_found(season, phase, trend):
    t = np.arange(5 * season)
    x = np.cos(2 * np.pi * (t + phase) / season) + trend * t
    assert series.find_season(x) == season


def test_no_season_in_noise():
    assert series.find_season(np.random.default_rng(0).normal(size=300)) is None
    assert series.find_season(np.arange(300.0)) is None
    assert series.find_season(np.sin(np.arange(90) * np.pi / 3)) is None  # 6 is no candidate
    assert series.find_season(np.ones(5)) is None
    assert series.find_season(flights()) == 12


def test_read_csv(tmp_path):
    path = tmp_path / "series.csv"
    path.write_text('\ufeff"day", sold\nMon,1\n\nTue, 2.5\n', encoding="utf-8")
    for column in (None, "sold"):
        x, name, when, unit = series.read_csv(path, column)
        assert (name, when.tolist(), unit) == ("sold", [1, 2], "row")
        np.testing.assert_array_equal(x, [1, 2.5])
    path.write_text("day;sold\nMon;-1e3\n")
    assert series.read_csv(path)[0].tolist() == [-1000]


@pytest.mark.parametrize(
    ("cells", "first"),
    [
        (["2024-02-28", "2024-02-29", "2024-02-29"], "2024-02-28"),
        (["2024-02-28 23:00", "2024-02-29 00:00"], "2024-02-28T23"),
        (["2024-02-28T23:00:00Z", "2024-02-29T00:00:00Z"], "2024-02-28T23"),
        (["1949-01", "1949-02"], "1949-01-01"),
        (["2024/2/9", "2024/10/9"], "2024-02-09"),
        (["28.2.2024", "1.3.2024"], "2024-02-28"),
        (["2/28/2024", "3/1/2024"], "2024-02-28"),
        (["28/02/2024", "01/03/2024"], "2024-02-28"),
        (["02/01/2024", "01/02/2024", "02/02/2024"], "2024-01-02"),  # else it would go back
        (["Jan 1949", "Feb 1949"], "1949-01-01"),
        (["01/02/2024", "01/03/2024"], None),  # in February and March, or both in January?
        (["2024-02-28", "2024-02-30"], None),
        (["2024-02-28", ""], None),
        (["2024-02-28", "2024-02-29", "2024-02-27"], None),
        (["20240228", "20240229"], None),
        (["Mon", "Tue"], None),
    ],
)
def test_dates_are_found(tmp_path, cells, first):
    path = tmp_path / "series.csv"
    rows = [f"{i}x,{cell},{i},2023-01-0{i + 1}\n" for i, cell in enumerate(cells)]
    path.write_text("id,when,v,late\n" + "".join(rows))
    _, _, when, unit = series.read_csv(path, "v")
    assert unit == ("when" if first else "late")
    assert when[0] == np.datetime64(first or "2023-01-01")


def test_years_are_dates(tmp_path):
    path = tmp_path / "series.csv"
    path.write_text("Year,v\n1949,2000\n1950,2001\n")
    _, _, when, unit = series.read_csv(path, "v")
    assert (when.astype("datetime64[Y]").astype(str).tolist(), unit) == (["1949", "1950"], "Year")
    assert series.read_csv(path, "Year")[3] == "row"


@pytest.mark.parametrize(
    ("content", "column", "message"),
    [
        ("", None, "no line of names"),
        ("a,b\n", "a", "no line of names"),
        ("1,2\n3,4\n", "a", "must name the columns"),
        ("a,b\n1,2\n", None, "which column.*'a', 'b'"),
        ("a,b\nx,y\n", None, "no column of numbers.*'x', 'y'"),
        ("a,b\n1,2\n", "c", "no column 'c'; it has 'a', 'b'"),
        ("a,b\n1,2\n3,\n", "b", "line 3: column 'b' holds nothing"),
        ("a,b\n1,2\n\n3\n", "b", "line 4: column 'b' holds nothing"),
        ("a,b\n1,2\n3,n/a\n", "b", "line 3: column 'b' holds 'n/a'"),
        ("a,b\n1,nan\n", "b", "line 2: column 'b' holds 'nan'"),
        ("a\n\0\n", "a", "not a text file"),
        ("a,b,a\n1,2,3\n", "a", "several columns 'a'; it has 'a', 'b', 'a'"),
        ("a,b\n1,2,\n1,2,345\n", "b", "line 3 has 3 values for 2 columns .with a ','"),
        ("t,b\n2024-02-02,1\n2024-02-01,2\n", "b", "newest row first .see column 't'"),
        ('a\n"' + 200_000 * "1", "a", "line 2: field larger"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, content, column, message):
    path = tmp_path / "series.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        series.read_csv(path, column)
