# status: ok
# stdout: ['9', '4', '1'] 0

import subprocess

out = subprocess.run("for i in 1 2 3; do echo $((i*i)); done | sort -r", shell=True, capture_output=True, text=True)
print(out.stdout.split(), out.returncode)
