# status: failed
# last_error: TypeError: can only concatenate str (not "int") to str

n = input() if False else "12"
print("n + 1 =", n + 1)
