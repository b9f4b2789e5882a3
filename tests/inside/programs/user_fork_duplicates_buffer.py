import os
print("buffered twice")
if os.fork():
    os.wait()
