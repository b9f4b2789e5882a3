# status: signaled
# signal: SIGSEGV
# stdout: reading the value at address 0

import ctypes

print("reading the value at address 0", flush=True)
print(ctypes.string_at(0))
