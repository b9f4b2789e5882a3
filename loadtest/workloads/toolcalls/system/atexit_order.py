# status: ok
# stdout: end of main
# stdout: registered last, runs first
# stdout: registered first, runs last

import atexit

atexit.register(print, "registered first, runs last")
atexit.register(print, "registered last, runs first")
print("end of main")
