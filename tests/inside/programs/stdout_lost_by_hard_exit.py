import os
print("in the buffer")
os.write(1, b"straight\n")
os._exit(3)
