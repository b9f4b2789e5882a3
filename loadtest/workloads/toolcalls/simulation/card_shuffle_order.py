# status: ok
# stdout: 8

def out_shuffle(deck):
    half = len(deck)//2
    return [c for pair in zip(deck[:half], deck[half:]) for c in pair]

deck = list(range(52))
cur, n = out_shuffle(deck), 1
while cur != deck:
    cur, n = out_shuffle(cur), n + 1
print(n)
