# status: failed
# last_error: EOFError: EOF when reading a line
# stdout_sha256: cb7ff14c37b7e91a2abf000af664d8ef4dbab17c364ea1a147f835617aa7f4cf

n = int(input("n = "))
print(n*(n + 1)//2)
