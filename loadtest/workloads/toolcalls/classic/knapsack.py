# status: ok
# stdout: 250

def knapsack(cap, items):
    best = [0]*(cap + 1)
    for w, v in items:
        for c in range(cap, w - 1, -1):
            best[c] = max(best[c], best[c - w] + v)
    return best[cap]

print(knapsack(50, [(10, 60), (20, 100), (30, 120), (15, 90)]))
