"""Become another program in the slot of a call: `launch.py PROGRAM ARGUMENT...`; exit code 127 if there is none.

After this nothing of the interpreter is left, so that exit code, signals and output are the program's own.
"""

import os
import signal
import sys

program, arguments = sys.argv[1], sys.argv[1:]
os.unlink("main.py")  # this file; the working directory is the program's
if os.path.exists("/tmp/.main.py"):  # a slot's own; the program has a file of this name
    os.rename("/tmp/.main.py", "main.py")
for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and what is ignored stays so over an exec
    signal.signal(number, signal.SIG_DFL)
try:
    if program.startswith("/tmp/"):  # a slot's own: what was compiled, and arrived as a plain file
        os.chmod(program, 0o755)
    os.execvp(program, arguments)
except OSError as error:
    os.write(2, f"{program}: {error.strerror}\n".encode())
    os._exit(127)
