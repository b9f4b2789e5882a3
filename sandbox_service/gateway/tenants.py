"""The policies of tenants, from a TOML file that an operator writes; without one, nobody has limits of their own.

[default]          # every tenant without a table of its own
queued = 20000

[tenants.research]
weight = 4
rate = 500
"""

from __future__ import annotations

from pathlib import Path

import tomllib
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sandbox_service.errors import SetupError
from sandbox_service.queue import NO_LIMITS, Policy
from sandbox_service.reasons import flaws


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    default: Policy = NO_LIMITS
    tenants: dict[str, Policy] = Field(default_factory=dict)


class Tenants:
    """Tells each tenant's policy."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._policies = _File()
        self.reload()

    def policy(self, tenant: str) -> Policy:
        return self._policies.tenants.get(tenant, self._policies.default)

    def reload(self) -> None:
        """Read the file again; if it cannot be used, raise SetupError and keep the policies that are in force."""
        if self._file is None:
            return
        try:
            self._policies = _File.model_validate(tomllib.loads(self._file.read_text()))
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise SetupError(f"cannot read the tenants in {self._file}: {why}") from error
        except tomllib.TOMLDecodeError as error:
            raise SetupError(f"{self._file} is not valid TOML: {error}") from error
        except ValidationError as error:
            wrong = [f"{field}: {why}" for field, why in flaws(_File, error)]
            raise SetupError(f"{self._file} is not valid:\n  " + "\n  ".join(wrong)) from error
