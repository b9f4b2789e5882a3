def g():
    raise StopIteration
    yield
list(g())
