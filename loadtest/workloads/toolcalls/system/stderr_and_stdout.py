# status: ok
# stdout: to stdout
# stdout: to stdout again

import sys

print("to stdout")
print("to stderr", file=sys.stderr)
print("to stdout again")
