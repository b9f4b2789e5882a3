# status: ok
# stdout_varies: a measured time

import time

start = time.perf_counter()
s = 0
for i in range(200000):
    s += i*i
print(s, f"{time.perf_counter() - start:.3f}s")
