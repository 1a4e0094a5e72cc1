"""The programs with `--device cuda`, on the stand-in for CuPy; and no hidden wait for the GPU."""

import numpy as np
import pytest
import strict_cupy

from examples import forecasting, text_generation
from minigrad.training import Trainer

TEXT = "The cat sat on the mat. The dog sat on the cat. A rat ran!\n" * 20
TINY = ["--hidden", "8", "--batch", "4", "--length", "10"]


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    strict_cupy.install(monkeypatch)


@pytest.mark.parametrize("recipe", ["stream", "windows"])
def test_text_generation(recipe, tmp_path, capsys, monkeypatch):
    text, path = tmp_path / "text.txt", tmp_path / "run.ckpt"
    text.write_text(TEXT)
    waits = []
    step = text_generation.Run.step

    def watched(self):
        before = strict_cupy.syncs
        loss = step(self)
        waits.append(strict_cupy.syncs - before)
        return loss

    monkeypatch.setattr(text_generation.Run, "step", watched)
    options = ["--checkpoint", str(path), "--device", "cuda"]
    train = ["--text", str(text), "--steps", "12", "--recipe", recipe, *TINY, *options]
    assert text_generation.main(train) == 0
    assert waits == [0] * 12
    assert "on cuda" in capsys.readouterr().out
    assert text_generation.main(["sample", "--length", "5", *options]) == 0
    assert text_generation.main(["train", "--resume", "--steps", "14", *options]) == 0
    on_cpu = ["sample", "--length", "5", "--checkpoint", str(path)]  # wherever it was trained
    assert text_generation.main(on_cpu) == 0


@pytest.mark.cpu_only("the program alone chooses the device")
@pytest.mark.parametrize("recipe", ["default", "tutorial"])
def test_forecasting(recipe, tmp_path, monkeypatch, capsys):
    waits = []
    run = Trainer.run

    def watched(self):
        step = self.step

        def counted():
            before = strict_cupy.syncs
            loss = step()
            waits.append(strict_cupy.syncs - before)
            return loss

        self.step = counted
        return run(self)

    monkeypatch.setattr(Trainer, "run", watched)
    path = tmp_path / "series.csv"
    path.write_text("v\n" + "\n".join(map(str, np.arange(1, 61) + np.arange(60) % 6)))
    options = ["--csv", str(path), "--epochs", "1", "--hidden", "4", "--device", "cuda"]
    plot = ["--plot", str(tmp_path / "picture.png")]
    assert forecasting.main([*options, *plot, "--recipe", recipe]) == 0
    assert len(waits) > 2
    assert not any(waits)
