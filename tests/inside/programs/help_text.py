def f(x):
    """What f does."""
help(f)
