# status: ok
# stdout: 6 4

from collections import deque

def knight(start, goal, n=8):
    seen = {start: 0}
    q = deque([start])
    while q:
        x, y = q.popleft()
        if (x, y) == goal:
            return seen[x, y]
        for dx, dy in ((1, 2), (2, 1), (-1, 2), (-2, 1), (1, -2), (2, -1), (-1, -2), (-2, -1)):
            nxt = (x + dx, y + dy)
            if 0 <= nxt[0] < n and 0 <= nxt[1] < n and nxt not in seen:
                seen[nxt] = seen[x, y] + 1
                q.append(nxt)

print(knight((0, 0), (7, 7)), knight((0, 0), (1, 1)))
