import os, subprocess, ctypes
print(sorted(os.environ.items()))
print(os.environb[b"GREETING"], os.getenv("EMPTY"), os.getenv("MISSING"))
libc = ctypes.CDLL(None)
libc.getenv.restype = ctypes.c_char_p
print(libc.getenv(b"GREETING"))
print(subprocess.run(["sh", "-c", "echo $GREETING $HOME"], capture_output=True).stdout)
