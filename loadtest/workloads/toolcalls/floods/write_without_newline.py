# status: ok
# truncated: stdout
# stdout_sha256: d8b2af1c85cdb4588e978aed5875e12cbfd20f68009823cf914b40cf41d8e4ce

import sys

for i in range(70):
    sys.stdout.write("0123456789abcdef"*60)
