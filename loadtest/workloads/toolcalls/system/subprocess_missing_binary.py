# status: failed
# last_error: FileNotFoundError: [Errno 2] No such file or directory: 'magma'

import subprocess

subprocess.run(["magma", "-b", "script.m"], check=True)
