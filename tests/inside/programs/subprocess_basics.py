import subprocess, sys
print(subprocess.run(["echo", "hi"], capture_output=True, text=True))
print(subprocess.run("exit 3", shell=True).returncode)
print(subprocess.check_output([sys.executable, "-c", "import sys; print(sys.argv, __name__)", "a"], text=True))
child = subprocess.run([sys.executable, "-"], input="raise SystemExit(4)", text=True)
print(child.returncode)
try:
    subprocess.run(["sleep", "5"], timeout=0.05)
except subprocess.TimeoutExpired as error:
    print(error.cmd, error.output)
try:
    subprocess.run(["no-such-program"])
except FileNotFoundError as error:
    print(error)
subprocess.run(["false"], check=True)
