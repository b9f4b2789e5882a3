# status: ok
# stdout: 0 5050

import subprocess
import sys

out = subprocess.run([sys.executable, "-c", "print(sum(range(101)))"], capture_output=True, text=True)
print(out.returncode, out.stdout.strip())
