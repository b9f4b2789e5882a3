# status: ok
# stdout: 1
# stdout: 11
# stdout: 21
# stdout: 1211
# stdout: 111221
# stdout: 312211
# stdout: 13112221
# stdout: 1113213211
# stdout: 31131211131221
# stdout: 13211311123113112211
# stdout: 11131221133112132113212221
# stdout: 3113112221232112111312211312113211

from itertools import groupby

s = "1"
for _ in range(12):
    print(s)
    s = "".join(f"{len(list(g))}{k}" for k, g in groupby(s))
