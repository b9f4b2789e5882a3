import warnings
warnings.simplefilter("always")
open("x", "w")
print("after")
