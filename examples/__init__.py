"""Programs to run with `python -m examples.NAME`; see README.md."""
