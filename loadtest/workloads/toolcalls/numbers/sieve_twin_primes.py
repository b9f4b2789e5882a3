# status: ok
# stdout: 9592 1224 (99989, 99991)

def sieve(n):
    is_p = bytearray([1])*(n + 1)
    is_p[0:2] = b"\0\0"
    for i in range(2, int(n**0.5) + 1):
        if is_p[i]:
            is_p[i*i::i] = bytearray(len(range(i*i, n + 1, i)))
    return [i for i, v in enumerate(is_p) if v]

ps = sieve(100000)
twins = [(p, q) for p, q in zip(ps, ps[1:]) if q - p == 2]
print(len(ps), len(twins), twins[-1])
