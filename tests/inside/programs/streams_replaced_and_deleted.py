import os
import sys
sys.stdout = sys.__stdout__ = os.fdopen(os.dup(1), "w")
print("a")
sys.stderr = sys.__stderr__ = os.fdopen(2, "w")
print("b", file=sys.stderr)
