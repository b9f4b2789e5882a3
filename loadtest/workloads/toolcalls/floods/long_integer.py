# status: ok
# truncated: stdout
# stdout_sha256: 3406349cbd6f3b4a5f6073baae91467f331979c057280d029fcae7e6c2abdf60

import sys

sys.set_int_max_str_digits(0)
n = 3**140000
print(n)
