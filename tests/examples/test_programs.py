"""The programs as a user runs them: tiny runs, wrong arguments, stopping and going on."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from examples import forecasting, lstm_by_hand, min_char_rnn, text_generation
from minigrad.checkpoint import load, save

ROOT = Path(__file__).parent.parent.parent
TEXT = "The cat sat on the mat. The dog sat on the cat. A rat ran!\n" * 40
TINY = ["--hidden", "8", "--batch", "4", "--length", "10"]


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return str(path)


def start(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        **options,
    )


# --- text_generation ------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", ["stream", "windows"])
def test_train_then_sample(recipe, text, tmp_path, capsys):
    checkpoint = str(tmp_path / "run.ckpt")
    options = ["--checkpoint", checkpoint, "--recipe", recipe, "--every", "20", "--lr", "0.02"]
    assert text_generation.main(["--text", text, "--steps", "60", *TINY, *options]) == 0
    out = capsys.readouterr().out
    assert "n = " in out
    losses = [float(x) for x in re.findall(r"step \d+: held-out ([\d.]+) nats", out)]
    assert len(losses) == 3
    assert losses[-1] < losses[0]
    bits = float(re.search(r"held-out ([\d.]+) nats = ([\d.]+) bits", out).group(2))
    assert bits == pytest.approx(
        float(re.search(r"held-out ([\d.]+) nats", out).group(1)) / np.log(2), abs=2e-3
    )

    def sample(*more):
        assert text_generation.main(["sample", "--checkpoint", checkpoint, *more]) == 0
        return capsys.readouterr().out

    warm = ["--temperature", "0.8"]
    first = sample("--length", "30", "--seed", "1", *warm)
    assert first == sample("--length", "30", "--seed", "1", *warm)
    cats = sample("--prompt", "The cat", "--length", "5", "--top-k", "2", *warm)
    assert cats.lower().startswith("the cat")
    greedy = [sample("--temperature", "0", "--length", "20") for _ in "12"]
    by_rank = ["--top-k", "1"] if recipe == "stream" else []
    assert greedy == [sample(*by_rank, "--length", "20")] * 2
    for useless, message in (
        (["--prompt", "zebra?"], "'?bz'"),
        (["--temperature", "0", "--seed", "1"], "--seed would have no effect: at --temperature 0"),
        (["--top-k", "1", "--temperature", "2"], "--temperature would have no effect: with --top"),
        *([(["--top-k", "3"], "0 (this recipe's default)")] if recipe == "windows" else []),
    ):
        with pytest.raises(SystemExit) as stop:
            sample(*useless)
        assert stop.value.code == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


@pytest.mark.parametrize("recipe", ["stream", "windows"])
def test_stopped_and_resumed_is_the_very_same_run(recipe, text, tmp_path, monkeypatch, capsys):
    def run(name, *more):
        path = str(tmp_path / name)
        return text_generation.main(["train", "--checkpoint", path, *more])

    settings = ["--text", text, "--recipe", recipe, "--steps", "130", "--every", "50", *TINY]
    assert run("whole.ckpt", *settings) == 0
    step = text_generation.Run.step

    def stopping(self):
        if self.trainer.done == 72:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self)

    monkeypatch.setattr(text_generation.Run, "step", stopping)
    assert run("parts.ckpt", *settings) == 130
    said = capsys.readouterr().out
    monkeypatch.setattr(text_generation.Run, "step", step)
    assert "stopped after step 73" in said
    command = said.strip().splitlines()[-1].split()  # exactly as it says
    assert command[:3] == ["python", "-m", "examples.text_generation"]
    assert text_generation.main(command[3:]) == 0
    whole, parts = load(tmp_path / "whole.ckpt"), load(tmp_path / "parts.ckpt")
    assert whole["best"]["loss"] == parts["best"]["loss"]
    assert whole["random"] == parts["random"]
    for name, weight in whole["parts"]["model"].items():
        np.testing.assert_array_equal(weight.numpy(), parts["parts"]["model"][name].numpy())


def test_resuming_is_strict_and_starting_anew_is_safe(text, tmp_path, capsys):
    path = tmp_path / "run.ckpt"
    first = ["--text", text, "--checkpoint", str(path), "--steps", "3", *TINY]
    assert text_generation.main(first) == 0
    resume = ["--resume", "--checkpoint", str(path)]
    with pytest.raises(SystemExit) as stop:
        text_generation.main([*resume, "--lr", "0.1", "--held-out", "0.2"])
    assert stop.value.code == 2
    assert "--held-out, --lr would have no effect" in capsys.readouterr().err
    assert text_generation.main([*resume, "--steps", "5"]) == 0
    assert load(path)["done"] == 5
    assert text_generation.main([*resume]) == 0
    assert "nothing left to do" in capsys.readouterr().out
    saved = path.read_bytes()
    for _ in range(2):
        assert text_generation.main(first) == 0
    assert (tmp_path / "run.ckpt.old1").read_bytes() == saved
    assert load(tmp_path / "run.ckpt.old2")["done"] == load(path)["done"] == 3
    moved = Path(text).rename(tmp_path / "moved.txt")
    for more, message in (
        ([], "text.txt is gone: say with --text"),
        (["--text", __file__], "is not the text that"),
    ):
        with pytest.raises(SystemExit):
            text_generation.main([*resume, *more])
        assert message in capsys.readouterr().err
    assert text_generation.main([*resume, "--steps", "4", "--text", str(moved)]) == 0
    assert text_generation.main([*resume, "--steps", "5"]) == 0  # it knows by now


def test_ctrl_c_in_a_shell(text, tmp_path):
    checkpoint = tmp_path / "run.ckpt"
    arguments = ["--text", text, "--steps", "1000000", "--every", "100", *TINY]
    process = start("examples.text_generation", *arguments, "--checkpoint", str(checkpoint))
    for line in process.stdout:  # lines arrive while it runs
        if line.startswith("step 100:"):
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert f"train --resume --checkpoint {checkpoint}" in out
    assert err == ""
    assert load(checkpoint)["done"] >= 100


def test_minutes_decide_how_many_steps(text, tmp_path, capsys):
    options = ["--checkpoint", str(tmp_path / "run.ckpt"), "--minutes", "0.002", *TINY]
    assert text_generation.main(["--text", text, *options]) == 0
    assert re.search(r"0\.002 minutes are as many as\nsteps: 0 of \d+", capsys.readouterr().out)


def test_divergence_is_told_with_advice(text, tmp_path, monkeypatch, capsys):
    checkpoint = tmp_path / "run.ckpt"
    step = text_generation.Run.step

    def spoilt(self):
        if self.trainer.done == 30:
            self.model.output.weight.data.fill_(float("nan"))
        return step(self)

    monkeypatch.setattr(text_generation.Run, "step", spoilt)
    options = ["--checkpoint", str(checkpoint), "--every", "20", "--steps", "60", *TINY]
    assert text_generation.main(["--text", text, *options]) == 1
    error = capsys.readouterr().err
    assert "lower learning rate: --lr" in error
    assert str(checkpoint) in error
    assert load(checkpoint)["done"] == 20


def test_the_licence_of_a_gutenberg_book_is_cut(tmp_path, capsys):
    path = tmp_path / "book.txt"
    path.write_text(
        "*** START OF THE PROJECT GUTENBERG EBOOK CATS ***\n"
        + TEXT
        + "*** END OF THE PROJECT GUTENBERG EBOOK CATS ***\nXYZ LICENSE XYZ\n"
    )
    checkpoint = str(tmp_path / "run.ckpt")
    arguments = ["--text", str(path), "--checkpoint", checkpoint, "--steps", "1", *TINY]
    assert text_generation.main(arguments) == 0
    assert "Project Gutenberg book" in capsys.readouterr().out
    assert "X" not in load(checkpoint)["config"]["characters"]


# --- min_char_rnn ---------------------------------------------------------------------------------


def test_min_char_rnn(text, capsys):
    options = ["--iterations", "300", "--every", "100", "--hidden", "20"]
    assert min_char_rnn.main(["--text", text, *options]) == 0
    out = capsys.readouterr().out
    lines = re.findall(r"^iter (\d+), loss: (\d+\.\d{6})$", out, re.M)
    assert [int(n) for n, _ in lines] == [0, 100, 200, 300]
    symbols = len(set(TEXT))
    assert f"data has {len(TEXT)} characters, {symbols} unique." in out
    assert float(lines[0][1]) == pytest.approx(25 * np.log(symbols), abs=0.01)
    assert float(lines[-1][1]) < float(lines[0][1])


def test_min_char_rnn_reads_bytes(tmp_path, capsys):
    path = tmp_path / "text.txt"
    path.write_text("déjà vu " * 20 + "\nEnd of the Project Gutenberg EBook of Cats\n", "utf-8")
    assert min_char_rnn.main(["--text", str(path), "--iterations", "1"]) == 0
    out, err = capsys.readouterr()
    assert f"data has {len(path.read_bytes())} characters" in out
    assert "learnt too" in err


# --- forecasting ----------------------------------------------------------------------------------


def table(out):
    return {
        name: [float(x.rstrip("%")) for x in numbers.split() if x != "-"]
        for name, numbers in re.findall(r"^(LSTM|naive|seasonal naive) +([\d.%e+ -]+)$", out, re.M)
    }


def test_forecasting_built_in(tmp_path, capsys):
    plot = tmp_path / "new" / "picture.png"
    arguments = ["--plot", str(plot), "--epochs", "10", "--hidden", "8"]
    assert forecasting.main(arguments) == 0
    out = capsys.readouterr().out
    rows = table(out)
    assert rows["seasonal naive"][:3] == [50.71, 47.83, 10.0]
    assert rows["naive"][0] == 102.98
    assert "season 12 (found in the data)" in out
    assert ("beats seasonal naive" in out) == (rows["LSTM"][0] < 50.71)
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert list(plot.parent.iterdir()) == [plot]


def test_nothing_held_out_is_looked_at(tmp_path, monkeypatch):
    """Other values at the end of the series: the same forecast."""
    monkeypatch.chdir(tmp_path)
    seen = []
    monkeypatch.setattr(forecasting, "table", lambda train, truth, f, season: str(seen.append(f)))
    monkeypatch.setattr(forecasting, "plot", lambda *_: None)
    values = np.exp(np.sin(np.arange(80) * np.pi / 6) + np.arange(80) / 40).round(3)
    for recipe in ("default", "tutorial"):
        seen.clear()
        for last in (values[-12:], 1000 * values[:12]):
            path = tmp_path / "series.csv"
            path.write_text("v\n" + "\n".join(map(str, [*values[:-12], *last])))
            options = ["--csv", str(path), "--epochs", "2", "--hidden", "4", "--recipe", recipe]
            assert forecasting.main(options) == 0
        np.testing.assert_array_equal(seen[0]["LSTM"], seen[1]["LSTM"])
        assert np.isfinite(seen[0]["LSTM"]).all()


def test_the_default_recipe_takes_out_a_long_season(tmp_path, capsys):
    t = np.arange(400)
    path = tmp_path / "series.csv"
    path.write_text("day,v\n" + "\n".join(f"d{i},{np.sin(2 * np.pi * i / 100)}" for i in t))
    options = ["--csv", str(path), "--season", "100", "--horizon", "50", "--hidden", "8"]
    plot = ["--plot", str(tmp_path / "x.png")]
    assert forecasting.main([*options, *plot, "--epochs", "3"]) == 0
    assert table(capsys.readouterr().out)["LSTM"][0] < 0.2  # a plain window of 30 is lost here


def test_a_forecast_that_is_not_finite_is_told(tmp_path, monkeypatch, capsys):
    recipe = lambda train, given: np.full(given.horizon, np.inf)  # noqa: E731
    monkeypatch.setattr(forecasting, "default_recipe", recipe)
    assert forecasting.main(["--plot", str(tmp_path / "x.png")]) == 1
    assert "its forecast is not finite. Try a lower" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_dates_of_a_file_are_on_the_axis(tmp_path):
    path, plot = tmp_path / "series.csv", tmp_path / "x.svg"
    rows = [f"{1990 + i // 12}-{1 + i % 12:02d},{i % 12}" for i in range(60)]
    path.write_text("month,v\n" + "\n".join(rows))
    options = ["--csv", str(path), "--epochs", "1", "--hidden", "2", "--plot", str(plot)]
    assert forecasting.main(options) == 0
    assert "<!-- month -->" in plot.read_text() and "<!-- 1993 -->" in plot.read_text()


def test_without_matplotlib(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    plot = tmp_path / "picture.png"
    assert forecasting.main(["--plot", str(plot), "--epochs", "1", "--hidden", "2"]) == 0
    out = capsys.readouterr().out
    assert "pip install matplotlib" in out
    assert "LSTM" in table(out)
    assert not plot.exists()


def test_the_verdict_is_plain():
    assert "beats" in forecasting.verdict(10, 20)
    assert "50% lower" in forecasting.verdict(10, 20)
    assert "does NOT beat seasonal naive" in forecasting.verdict(40, 20)
    assert "2.0 times" in forecasting.verdict(40, 20)
    assert "the same" in forecasting.verdict(0, 0)
    assert "is 0.5, not 0" in forecasting.verdict(0.5, 0)


def test_errors_of_any_size_fit_into_their_column():
    given = {24.776: "24.78", 0.0012345: "0.00123", 12345678.9: "1.23e+07", 0.0: "0"}
    assert {error: forecasting.short(error) for error in given} == given


# --- lstm_by_hand ---------------------------------------------------------------------------------


def test_lstm_by_hand(capsys):
    assert lstm_by_hand.main([]) == 0
    out = capsys.readouterr().out
    rows = re.findall(r"^(?:h'|c'|y) +(\S+) +(\S+) +(\S+)$", out, re.M)
    assert len(rows) == 7
    for mine, theirs, difference in rows:
        assert float(mine) == pytest.approx(float(theirs), abs=1e-15)
        assert float(difference) < 1e-15
    assert float(re.search(r"All 76 agree to (\S+)\.\n", out).group(1)) < 1e-8


# --- what a user can get wrong --------------------------------------------------------------------

PROGRAMS = {
    "text_generation": text_generation.main,
    "min_char_rnn": min_char_rnn.main,
    "forecasting": forecasting.main,
    "lstm_by_hand": lstm_by_hand.main,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_help(name, capsys):
    for arguments in [["--help"], *([["train", "-h"], ["sample", "-h"]] if "text" in name else [])]:
        with pytest.raises(SystemExit) as stop:
            PROGRAMS[name](arguments)
        assert stop.value.code == 0
        out = capsys.readouterr().out
        assert f"python -m examples.{name}" in out
        if name == "text_generation" and arguments == ["--help"]:
            assert "--text FILE" in out and "--prompt TEXT" in out  # the options of both commands


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("text_generation", ["--text", "nowhere.txt"], "nowhere.txt: No such file"),
        ("text_generation", ["--text", "."], "Is a directory"),
        ("text_generation", ["--text", "SHORT"], "A longer text"),
        ("text_generation", ["--text", "EMPTY"], "EMPTY is empty"),
        ("text_generation", ["--checkpoint", "."], "is a directory"),
        ("text_generation", ["--checkpoint", "SHORT/run.ckpt"], "SHORT is not a folder"),
        ("text_generation", ["--text", "BOOK", "--checkpoint", "BOOK"], "BOOK is there, and is no"),
        ("text_generation", ["--text", "BOOK", "--batch", "5000"], "a smaller --batch helps"),
        ("text_generation", ["--steps", "5", "--minutes", "1"], "give one of them"),
        ("text_generation", ["--recipe", "windows", "--embedding=9"], "--embedding would have no"),
        ("text_generation", ["--hidden", "100000000"], "too little memory"),
        ("text_generation", ["sample", "--checkpoint", "OTHER"], "not of this program"),
        ("text_generation", ["book.txt"], "--text FILE"),
        ("text_generation", ["--hidden", "0"], "'0' is not a whole number greater than 0"),
        ("text_generation", ["--lr", "nan"], "'nan' is not a number"),
        ("text_generation", ["--dropout", "1"], "below 1"),
        ("text_generation", ["--device", "tpu"], "no such device"),
        ("text_generation", ["--recipe", "best"], "invalid choice"),
        (
            "text_generation",
            ["--resume", "--checkpoint", "none.ckpt"],
            "no checkpoint at none.ckpt",
        ),
        ("text_generation", ["sample", "--checkpoint", "none.ckpt"], "train first"),
        ("text_generation", ["sample", "--checkpoint", "SHORT"], "no minigrad checkpoint"),
        ("text_generation", ["sample", "--temperature", "-1"], "0 or greater"),
        ("text_generation", ["smaple"], "smaple"),
        ("min_char_rnn", ["--text", "nowhere.txt"], "No such file"),
        ("min_char_rnn", ["--text", "EMPTY"], "empty"),
        ("min_char_rnn", ["--text", "SHORT"], "too few"),
        ("min_char_rnn", ["--iterations", "many"], "'many'"),
        ("min_char_rnn", ["--lr", "1e300"], "lower learning rate"),
        ("forecasting", ["--csv", "nowhere.csv"], "No such file"),
        ("forecasting", ["--csv", "CSV", "--column", "price"], "it has 'day', 'sold'"),
        ("forecasting", ["--csv", "CSV", "--column", "day"], "line 2: column 'day' holds 'Mon'"),
        ("forecasting", ["--csv", "CSV"], "has 2 values"),
        ("forecasting", ["--column", "sold"], "give the file with --csv"),
        ("forecasting", ["--horizon", "140"], "has 144 values"),
        ("forecasting", ["--plot", "SHORT/x.png"], "cannot be written"),
        ("forecasting", ["--plot", "x.csv"], "expected a name that ends in .png"),
        ("forecasting", ["--plot", ".png"], "expected a name that ends in .png"),
        ("lstm_by_hand", ["--fast"], "unrecognized"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of overflow, with --lr 1e300
def test_a_mistake_gets_one_clear_line(name, arguments, message, tmp_path, capsys, monkeypatch):
    files = {"SHORT": "abc", "EMPTY": "", "BOOK": TEXT, "CSV": "day,sold\nMon,1\nTue,2\n"}
    for file, content in files.items():
        (tmp_path / file).write_text(content)
    save({"config": {"characters": "abc"}}, tmp_path / "OTHER")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        PROGRAMS[name](arguments)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith(f"python -m examples.{name}")
    assert error.count("\n") == 1
    assert {p.name for p in tmp_path.iterdir()} == {*files, "OTHER"}  # nothing left behind


def test_a_reader_that_goes_away_is_no_traceback():
    process = start("examples.min_char_rnn", "--iterations", "5", "--every", "1")
    process.stdout.readline()
    process.stdout.close()
    error = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 1
    assert error == ""
