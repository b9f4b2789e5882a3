import sys
print("before")
del sys.stdout, sys.stderr, sys.last_type if False else sys.stdin
