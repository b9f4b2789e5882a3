# status: ok
# truncated: stdout
# stdout_sha256: d428897cc5b84eabf819493c1073a95d6e5ca03a9e4503e5d31b8221101f4455

from itertools import permutations

for i, p in enumerate(permutations("ABCDEFGH"), 1):
    if i > 3640:
        break
    print(i, "".join(p), "-".join(p))
