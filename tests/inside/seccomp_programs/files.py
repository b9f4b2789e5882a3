"""Files, copies (sendfile is refused, so shutil reads and writes), archives, databases, watches, limits."""

import fcntl
import mmap
import os
import pathlib
import resource
import shutil
import signal
import sqlite3
import tarfile
import tempfile
import zipfile

here = pathlib.Path(tempfile.mkdtemp())
source = here / "source"
source.write_bytes(os.urandom(300_000))
for copy in (shutil.copy, shutil.copy2, shutil.copyfile):
    assert pathlib.Path(copy(source, here / copy.__name__)).read_bytes() == source.read_bytes()
shutil.copytree(here, here.parent / "tree")
shutil.move(here.parent / "tree", here / "tree")
with tarfile.open(here / "a.tar.gz", "w:gz") as archive:
    archive.add(source, "source")
with tarfile.open(here / "a.tar.gz") as archive:
    archive.extractall(here / "out")
with zipfile.ZipFile(here / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
    archive.write(source, "source")
os.chown(source, os.getuid(), os.getgid())
os.utime(source, (1, 1))
os.link(source, here / "hard")
os.symlink(source, here / "soft")
os.mkfifo(here / "fifo")
os.truncate(source, 10)
with open(source, "r+b") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    fcntl.lockf(file, fcntl.LOCK_EX)
    os.fsync(file.fileno())
    mapped = mmap.mmap(file.fileno(), 0)
    mapped[0] = 1
    mapped.flush()
    os.preadv(file.fileno(), [bytearray(4)], 0)
    assert not os.isatty(file.fileno())
shutil.rmtree(here / "tree")
for row in os.scandir(here):
    row.stat()
os.statvfs(here)

database = sqlite3.connect(here / "data.db")
database.execute("pragma journal_mode=wal")
database.execute("create table t (n)")
database.executemany("insert into t values (?)", [(n,) for n in range(1000)])
database.commit()
assert database.execute("select sum(n) from t").fetchone() == (499500,)
database.close()

resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
assert resource.prlimit(os.getpid(), resource.RLIMIT_NOFILE) == (256, 256)
os.sched_setaffinity(0, os.sched_getaffinity(0))
os.nice(1)
signal.setitimer(signal.ITIMER_REAL, 60)
signal.alarm(0)
os.umask(0o22)
os.eventfd(0)
os.memfd_create("memory")
os.get_blocking(0)
os.sync()
print("good")
