# status: ok
# truncated: stdout
# stdout_sha256: bfae1641363d634ac2cd2d97f72467f4cec63b3e7950f20fd06cff96ff1346ee

for i in range(4000):
    print("∑ ≤ π·ζ(2) — строка", i)
