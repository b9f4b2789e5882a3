import subprocess, sys
print(subprocess.run([sys.executable, "-I", "-c", "import numpy; print(numpy.ones(2))"], capture_output=True, text=True))
