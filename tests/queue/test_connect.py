"""What kind of server is accepted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
import redis.asyncio

from sandbox_service.config import Settings
from sandbox_service.errors import SetupError, Unavailable
from sandbox_service.queue import Queue, is_permanent_key


@pytest.fixture
def evicting(redis_url: str) -> Iterator[None]:
    with redis.Redis.from_url(redis_url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        yield
        client.config_set("maxmemory-policy", "noeviction")


@pytest.mark.usefixtures("evicting")
async def test_a_server_that_evicts_is_refused(redis_url: str) -> None:
    """It would drop accepted calls silently; the message says what to set."""
    with pytest.raises(SetupError, match="CONFIG SET maxmemory-policy noeviction"):
        await Queue.connect(Settings(redis_url=redis_url))


@pytest.mark.parametrize(
    ("info", "reason"),
    [({"redis_version": "6.2.14"}, "7.0 or later"), ({"redis_version": "7.2.4", "redis_mode": "cluster"}, "cluster")],
)
async def test_an_unfit_server_is_refused(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, info: dict[str, str], reason: str
) -> None:
    """Too old, or a cluster."""

    async def pretend(*_: object) -> dict[str, str]:
        return info

    monkeypatch.setattr(redis.asyncio.Redis, "info", pretend)
    with pytest.raises(SetupError, match=reason):
        await Queue.connect(Settings(redis_url=redis_url))


async def test_a_url_that_is_none_is_refused() -> None:
    """With a message that names the setting and not the password."""
    with pytest.raises(SetupError, match="SANDBOX_REDIS_URL") as caught:
        await Queue.connect(Settings(redis_url="http://me:secret@example:1"))
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://nowhere.invalid:6379", "its host's name cannot be resolved"),
        ("redis://127.0.0.1:9", "nothing listens there"),
        ("unix:///nowhere.sock", "there is no such socket"),
    ],
)
async def test_why_there_is_no_server_is_told(url: str, told: str) -> None:
    """In words, with what to do, and without the error numbers of the system."""
    with pytest.raises(Unavailable) as caught:
        await Queue.connect(Settings(redis_url=url))
    assert caught.value.message.startswith(f"no Redis at {url}: {told}")
    assert caught.value.message.endswith("Start one, or correct SANDBOX_REDIS_URL")


def test_the_permanent_list() -> None:
    """Streams and sets of names; never anything that exists per call."""
    assert is_permanent_key("p:work:default:batch")
    assert is_permanent_key("p:lanes")
    assert not any(is_permanent_key(f"p:{key}") for key in ("call:t:a", "gone:t:a", "batch:t:b", "wake:x", "worker:w"))
