# status: ok
# truncated: stdout
# stdout_sha256: c390eeda1ba134df3a2315eb55a15d89ee9d4ca832d0890bc3fa8f0ceb75c2e0

row = [1]
for n in range(115):
    print(n, row)
    row = [1] + [a + b for a, b in zip(row, row[1:])] + [1]
