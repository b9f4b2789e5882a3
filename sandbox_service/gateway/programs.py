"""The service's own programs that run in a jail, as calls: `deploy/programs`."""

from __future__ import annotations

import functools

from sandbox_service.config import deploy_dir


@functools.cache
def program(name: str) -> str:
    """Return the source of `deploy/programs/{name}.py`."""
    return (deploy_dir() / "programs" / f"{name}.py").read_text()
