# status: ok
# stdout: 209783453

def mul(A, B, m):
    return [[sum(a*b for a, b in zip(r, c)) % m for c in zip(*B)] for r in A]

def power(A, n, m):
    R = [[int(i == j) for j in range(len(A))] for i in range(len(A))]
    while n:
        if n & 1:
            R = mul(R, A, m)
        A = mul(A, A, m)
        n >>= 1
    return R

print(power([[1, 1], [1, 0]], 10**18, 10**9 + 7)[0][1])
