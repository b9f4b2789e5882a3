# status: ok
# stdout: 166650
# stdout: [1, 4, 9, 16, 25]

from itertools import count, islice, takewhile

def squares():
    for n in count(1):
        yield n*n

odd = (s for s in squares() if s % 2)
print(sum(takewhile(lambda s: s < 10000, odd)))
print(list(islice(squares(), 5)))
