import cProfile, pstats, io
def f(n):
    return n if n < 2 else f(n - 1) + f(n - 2)
profile = cProfile.Profile()
profile.enable()
f(10)
profile.disable()
print(pstats.Stats(profile, stream=io.StringIO()).total_calls)
