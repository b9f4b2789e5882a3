"""Load tests, simulations and the pages they write. They need what the service itself does without."""

from importlib.util import find_spec

_NEEDED = ("matplotlib", "rich", "simpy", "torch")

if missing := next((name for name in _NEEDED if find_spec(name) is None), None):
    raise SystemExit(
        f"this needs the development environment ({missing} is missing): run `make dev`, then start it as "
        "`.venv/bin/python -m ...`"
    )
