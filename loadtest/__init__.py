"""Load tests, simulations and the pages they write. They need what the service itself does without."""

import sys
from importlib.util import find_spec

_NEEDED = ("matplotlib", "rich", "simpy", "torch")

# What was imported already is there, or was hidden (None).
if missing := next((n for n in _NEEDED if (not sys.modules[n] if n in sys.modules else not find_spec(n))), None):
    raise SystemExit(
        f"this needs the development environment ({missing} is missing): run `make dev`, then start it as "
        "`.venv/bin/python -m ...`"
    )
