"""Random numbers, all drawn from host generators whose state can be saved and restored."""

from __future__ import annotations

from typing import Any

import numpy as np


class Generator:
    """A source of random numbers with its own state.

    The numbers are made on the host (and moved where they are wanted): the state of a GPU
    generator cannot be saved, and a run must be repeatable from its checkpoint.
    """

    def __init__(self, device: Any = "cpu") -> None:
        self.device = device
        self.seed()

    def manual_seed(self, seed: int) -> Generator:
        """Start over from `seed`: the same numbers follow each time."""
        if seed < 0:  # PyTorch takes negative seeds too; NumPy does not
            seed += 2**64
        self._seed = seed
        self.numpy = np.random.Generator(np.random.PCG64(seed))
        return self

    def seed(self) -> int:
        """Start over from a seed that the operating system chooses, and return it."""
        seed = int(np.random.SeedSequence().generate_state(1, np.uint64)[0])
        self.manual_seed(seed)
        return seed

    def initial_seed(self) -> int:
        """The seed that the generator last started from."""
        return self._seed

    def get_state(self) -> dict[str, Any]:
        """All that `set_state` needs to go on from here: plain numbers and strings."""
        return {"seed": self._seed, "bits": self.numpy.bit_generator.state}

    def set_state(self, state: dict[str, Any]) -> Generator:
        """Go on from a state that `get_state` returned."""
        self._seed = state["seed"]
        self.numpy.bit_generator.state = state["bits"]
        return self


default_generator = Generator()


def manual_seed(seed: int) -> Generator:
    """Seed the default generator: of initial weights, dropout, shuffling and sampling."""
    return default_generator.manual_seed(seed)


def initial_seed() -> int:
    """The seed that the default generator last started from."""
    return default_generator.initial_seed()


def get_rng_state() -> dict[str, Any]:
    """The state of the default generator."""
    return default_generator.get_state()


def set_rng_state(state: dict[str, Any]) -> None:
    """Go on from a state that `get_rng_state` returned."""
    default_generator.set_state(state)
