import warnings
warnings.warn("first")
warnings.warn("second", DeprecationWarning)
def f():
    warnings.warn("from f", UserWarning, stacklevel=2)
for _ in range(3):
    f()
warnings.warn("far below", stacklevel=9)
warnings.simplefilter("error")
warnings.warn("as an error")
