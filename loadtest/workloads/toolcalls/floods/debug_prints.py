# status: ok
# truncated: stdout
# stdout_sha256: 04c27f2d921be690c02e04bdb6a732e235c44c50ceda2dbd77797f0847bac4d3

# Search with far too much debug output
found = []
for a in range(1, 60):
    for b in range(a, 60):
        c2 = a*a + b*b
        c = int(c2**0.5)
        print(f"checking a={a} b={b} c2={c2} c={c} ok={c*c == c2}")
        if c*c == c2:
            found.append((a, b, c))
print("found", len(found))
