# status: ok
# stdout: 6

from bisect import bisect_left

def lis(seq):
    tails = []
    for v in seq:
        k = bisect_left(tails, v)
        tails[k:k + 1] = [v]
    return len(tails)

print(lis([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9]))
