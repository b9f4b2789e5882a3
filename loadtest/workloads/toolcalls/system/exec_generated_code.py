# status: ok
# stdout: [1, 3, 9, 27, 81]

src = "\n".join(f"def f{i}(x): return x**{i}" for i in range(5))
ns = {}
exec(src, ns)
print([ns[f"f{i}"](3) for i in range(5)])
