# status: ok
# stdout: 1023 [('A', 'B'), ('A', 'C'), ('B', 'C')] ('B', 'C')

def hanoi(n, a="A", b="B", c="C"):
    if n:
        yield from hanoi(n - 1, a, c, b)
        yield a, c
        yield from hanoi(n - 1, b, a, c)

moves = list(hanoi(10))
print(len(moves), moves[:3], moves[-1])
