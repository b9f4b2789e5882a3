def f(*, a, **k):
    match k:
        case {"b": int(n)}:
            return a + n
print(f(a=1, b=2), (y := 5), y)
