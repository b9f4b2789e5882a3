# status: failed
# last_error: SyntaxError: expected ':'

def f(n)
    return n*n

print(f(3))
