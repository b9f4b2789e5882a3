"""Every setting of the service, read from SANDBOX_* environment variables and nowhere else.

Only this module reads the environment; the client's commands, which do without it, look at SANDBOX_PORT alone.
`sandbox-service config` prints what is in force with these descriptions.
"""

from __future__ import annotations

import os
import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from sandbox_service.models import MAX_WALL_S, Limits
from sandbox_service.reasons import closest


def deploy_dir() -> Path:
    """Return the folder of policy and package lists: inside an installed wheel, or the checkout's `deploy/`."""
    package = Path(__file__).resolve().parent
    installed = package / "_deploy"
    return installed if installed.is_dir() else package.parent / "deploy"


class Settings(BaseSettings):
    """Resolved settings. Times are seconds, sizes are in the unit their name ends with."""

    model_config = SettingsConfigDict(env_prefix="SANDBOX_", extra="ignore", frozen=True)

    # Where things are
    redis_url: str | None = Field(
        None, description="Redis or Valkey to use; unset: `serve` starts an embedded server of its own"
    )
    redis_prefix: str = Field("sandbox", description="first part of every Redis key", pattern=r"^[A-Za-z0-9_-]+$")
    state_dir: Path = Field(
        Path("/var/lib/sandbox-service"),
        description="rootfs images and the embedded server's data; every folder above must be world-searchable",
    )
    run_dir: Path = Field(
        Path("/run/sandbox-service"), description="sockets and folders of running parts; world-searchable"
    )
    image_python: Path | None = Field(
        None,
        description="CPython 3.11 or 3.12 that images are made from; unset: a 3.12 if there is one, or the service's",
    )

    # Gateway
    host: str = Field("127.0.0.1", description="address to listen on; any other than loopback needs an API key")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 picks a free one")
    grpc_host: str = Field("127.0.0.1", description="address of gRPC; any other than loopback needs an API key")
    grpc_port: int | None = Field(
        None, ge=0, le=65535, description="port of gRPC; unset: it is not offered; 0 picks a free one"
    )
    api_keys_file: Path | None = Field(
        None, description="one `tenant:sha256-of-key` a line; unset: no key is asked for, loopback only"
    )
    tenants_file: Path | None = Field(
        None, description="TOML with weights and quotas of tenants (README, Tenants); unset: equal shares, no quotas"
    )
    max_body_mb: int = Field(16, ge=1, le=1024, description="largest request body, counted while it arrives")
    max_queued: int = Field(100_000, ge=1, description="calls in the queue beyond which new ones get 429")
    max_queued_mb: int = Field(1024, ge=1, description="MiB of unfinished calls beyond which new ones get 429")
    result_ttl_s: float = Field(900, gt=0, description="how long a Result can be fetched by its id")
    default_timeout_s: float = Field(600, gt=0, description="deadline of calls that do not set `timeout_s`")
    max_wait_s: float = Field(60, gt=0, le=600, description="longest long-poll of a GET with `wait_s`")
    cancel_on_disconnect: bool = Field(
        True, description="cancel a call when the only client that waited for its answer went away"
    )

    judge_output_characters: int = Field(
        1000, ge=100, description="characters of stdout and of stderr that the code-judge dialect answers"
    )

    # Worker
    slots: int = Field(0, ge=0, le=1024, description="executions at once per worker; 0: two per CPU")
    image: str = Field("default", description="image of calls that name none", pattern="^[A-Za-z0-9_-]{1,64}$")
    profiles: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="preload profiles to keep warm, comma separated; empty: all of deploy/profiles.toml"
    )
    worker_metrics_port: int = Field(0, ge=0, le=65535, description="loopback port of the worker's /metrics; 0: none")
    worker_metrics_host: str = Field("127.0.0.1", description="address of the worker's /metrics")
    lease_s: float = Field(6, gt=0, description="a worker silent for this long has lost its executions")
    drain_s: float = Field(25, ge=0, description="how long a stopping part lets what is running finish")

    # Policy: defaults and the most a call may ask for
    default_wall_s: float = Field(10, gt=0, le=MAX_WALL_S, description="wall limit of calls that set none")
    max_wall_s: float = Field(60, gt=0, le=MAX_WALL_S, description="highest wall limit a call can have")
    default_cpu_s: float = Field(10, gt=0, le=MAX_WALL_S, description="CPU limit of calls that set none")
    max_cpu_s: float = Field(60, gt=0, le=MAX_WALL_S, description="highest CPU limit a call can have")
    default_memory_mb: int = Field(512, ge=1, description="memory limit of calls that set none")
    max_memory_mb: int = Field(4096, ge=1, description="highest memory limit a call can have")
    default_output_kb: int = Field(64, ge=1, description="kept output of calls that set no limit, each stream")
    max_output_kb: int = Field(4096, ge=1, description="most output a call can keep, each stream")
    default_processes: int = Field(64, ge=1, description="process and thread limit of calls that set none")
    max_processes: int = Field(256, ge=1, description="highest process and thread limit a call can have")
    default_disk_mb: int = Field(64, ge=1, description="disk limit of calls that set none")
    max_disk_mb: int = Field(512, ge=1, description="highest disk limit a call can have")

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="debug, info, warning or error")

    @field_validator("image_python", mode="before")
    @classmethod
    def _find_home(cls, value: object) -> object:
        return (Path(value).expanduser() if value else None) if isinstance(value, str) else value

    @field_validator("profiles", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _defaults_can_be_had(self) -> Settings:
        """Refuse a default that somebody wrote down and no call would get; one of ours gives way to a lower maximum."""
        for name in Limits.model_fields:
            default, most = getattr(self, f"default_{name}"), getattr(self, f"max_{name}")
            if default > most and f"default_{name}" in self.model_fields_set:
                raise ValueError(
                    f"SANDBOX_DEFAULT_{name.upper()}={default}: is more than SANDBOX_MAX_{name.upper()}, which is "
                    f"{most}: lower this one, or raise that one"
                )
        return self

    @model_validator(mode="after")
    def _ports_differ(self) -> Settings:
        if self.port and (self.host, self.port) == (self.grpc_host, self.grpc_port):
            raise ValueError(f"SANDBOX_PORT and SANDBOX_GRPC_PORT are both {self.port}: HTTP and gRPC need a port each")
        return self

    @property
    def slot_count(self) -> int:
        return self.slots or 2 * len(os.sched_getaffinity(0))

    @property
    def redis_dir(self) -> Path:
        """The data of the server that `serve` brings."""
        return self.state_dir / "redis"

    def resolve(self, limits: Limits) -> tuple[Limits, list[str]]:
        """Return `limits` with every field set (default or lowered to policy), and the names that were lowered."""
        if not any(limit is not None for limit in limits.__dict__.values()):
            return self._default_limits, []
        return self._resolve(limits)

    @cached_property
    def _default_limits(self) -> Limits:
        return self._resolve(Limits())[0]

    def _resolve(self, limits: Limits) -> tuple[Limits, list[str]]:
        resolved, lowered = {}, []
        for name in Limits.model_fields:
            asked = getattr(limits, name)
            highest = getattr(self, f"max_{name}")
            resolved[name] = min(getattr(self, f"default_{name}") if asked is None else asked, highest)
            if asked is not None and asked > highest:
                lowered.append(name)
        return Limits.model_construct(**resolved), lowered


_OF_OTHERS = re.compile(r"SANDBOX_(FUSION_|TEST_CACHE$|(.*_)?SERVICE_(HOST|PORT)|(.*_)?PORT_[0-9]+_)")
"""SandboxFusion's clients, the scripts, and what Kubernetes tells each pod of services named sandbox or sandbox-..."""


def unknown_variables() -> dict[str, str | None]:
    """Return the variables that look like settings and are none, each with the one that may be meant."""
    known = [f"SANDBOX_{name.upper()}" for name in Settings.model_fields]
    found: dict[str, str | None] = {}
    for name, value in sorted(os.environ.items()):
        upper = name.upper()  # settings are read whatever the case of their names
        is_address = upper.endswith("_PORT") and "://" in value  # Kubernetes again
        if not upper.startswith("SANDBOX_") or upper in known or is_address or _OF_OTHERS.match(upper):
            continue
        meant = closest(upper.removeprefix("SANDBOX_"), Settings.model_fields)
        found[name] = meant and f"SANDBOX_{meant.upper()}"
    return found
