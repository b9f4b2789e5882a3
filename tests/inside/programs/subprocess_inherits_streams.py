import subprocess, sys
print("parent", flush=True)
subprocess.run(["cat"])
subprocess.run("echo to stderr >&2", shell=True)
