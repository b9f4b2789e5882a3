"""Renews a worker's lease, on a thread and a connection of its own, so that a busy worker is not thought dead."""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time

import redis
from redis.exceptions import RedisError

from sandbox_service.queue.outage import Outage


class Heartbeat(threading.Thread):
    def __init__(
        self,
        url: str,
        keys: dict[str, str],
        worker: str,
        images: dict[str, str],
        slots: int,
        lease_s: float,
        python: str = "",
    ) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self.worker = worker
        self._lease, self._workers = keys["WORKER"] + worker, keys["WORKERS"]
        self._images, self._python = images, python
        self.tell(slots)
        self._lease_s = lease_s
        self._wake = threading.Event()
        self._stopped = False
        self.outage = Outage(f"the heartbeat of {worker}")
        patience_s = lease_s / 3
        self._client = redis.Redis.from_url(
            url, socket_timeout=patience_s, socket_connect_timeout=patience_s, retry=None
        )

    def tell(self, slots: int) -> None:
        """With the next beat others know that this worker has so many slots; with none it serves no image."""
        self._told = json.dumps({"images": self._images, "slots": slots, "python": self._python})

    def beat(self) -> None:
        """Take or renew the lease, now. Raises RedisError."""
        pipeline = self._client.pipeline(transaction=False)
        pipeline.set(self._lease, self._told, px=round(self._lease_s * 1000))
        pipeline.sadd(self._workers, self.worker)
        pipeline.execute()

    def beat_soon(self) -> None:
        self._wake.set()

    def run(self) -> None:
        while True:
            self._wake.wait(self._lease_s / 3)
            self._wake.clear()
            if self._stopped:
                break
            try:
                self.beat()
                self.outage.over()
            except RedisError as error:
                self.outage.because(error)
                time.sleep(random.uniform(0.1, 0.2) * self._lease_s)  # noqa: S311 (spreads reconnects)
                self._wake.set()
        self._client.close()

    async def stop(self) -> None:
        """End the thread. The lease runs out by itself."""
        self._stopped = True
        self._wake.set()
        await asyncio.to_thread(self.join)
