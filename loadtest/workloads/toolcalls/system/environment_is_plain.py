# status: ok
# stdout: True __main__ 1
# stdout: False True

import os
import sys

print(sys.version_info[:2] >= (3, 10), __name__, len(sys.argv))
print("SECRET" in os.environ, bool(os.getcwd()))
