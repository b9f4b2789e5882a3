print("\udce9 ok")
import sys
print("\ud800 in stderr", file=sys.stderr)
print("\ud800 in stdout")
