import sys
sys.displayhook = lambda value: print("shown", value)
exec(compile("1 + 1", "x", "single"))
