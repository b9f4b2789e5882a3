# status: output_limit
# limits: output_kb=8
# truncated: stdout
# stdout_sha256: 2169f8f8738739fa8f852813257a07cf1639f7fdfa9f1e2b429e0653c8d7bed6

import sys

done = 0
while True:
    done += 1
    sys.stdout.write("\r[" + "#"*(done % 50) + " "*(50 - done % 50) + "]")
    sys.stdout.flush()
