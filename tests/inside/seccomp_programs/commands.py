"""subprocess and asyncio with pipes, shells and signals; fork, exec and wait by hand."""

import asyncio
import os
import signal
import subprocess
import sys

assert subprocess.run(["echo", "hello"], capture_output=True).stdout == b"hello\n"
assert subprocess.check_output("seq 3 | sort -r | tr '\\n' ' ' && ls / > /dev/null", shell=True) == b"3 2 1 "
assert subprocess.run(["cat"], input=b"x" * 300_000, capture_output=True).stdout == b"x" * 300_000
assert subprocess.run(["bash", "-c", "trap 'exit 7' TERM; kill -TERM $$"], start_new_session=True).returncode == 7
script = "set -e; cd $(mktemp -d); echo a > a; cp -a a b; mv b c; ln -s c d; chmod 600 c; touch e; find . | xargs stat"
subprocess.run(["bash", "-c", script], check=True, stdout=subprocess.DEVNULL)
sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], process_group=0)
os.killpg(sleeper.pid, signal.SIGKILL)
assert sleeper.wait() == -signal.SIGKILL


async def main():
    process = await asyncio.create_subprocess_exec("cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    output, _ = await process.communicate(b"through a loop")
    assert output == b"through a loop"
    assert await asyncio.to_thread(os.getpid) == os.getpid()
    await asyncio.wait_for(asyncio.sleep(0.01), 5)


asyncio.run(main())

pid = os.fork()
if pid == 0:
    os.execv("/bin/true", ["true"])
assert os.waitpid(pid, 0)[1] == 0
# make's way: with the ids it has already, which libc sets all the same.
assert os.posix_spawn("/bin/true", ["true"], {}, resetids=True) > 0
assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
descriptor = os.pidfd_open(os.getpid())
signal.pidfd_send_signal(descriptor, 0)
print("good")
