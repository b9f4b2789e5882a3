import sys
print("text")
sys.stdout.buffer.write(b"bytes first\n")
sys.stdout.flush()
print("more", flush=True)
sys.stdout.buffer.write(b"\xff\xfe raw\n")
