# status: failed
# exit_code: 3
# stdout: checking the answer

import sys

print("checking the answer")
if 2 + 2 != 5:
    sys.exit(3)
