# status: ok
# stdout: 343

# last three digits of 7^(7^(7^7))  -- careful with the order
def tower(base, height, mod):
    if mod == 1:
        return 0
    if height == 1:
        return base % mod
    from sympy import totient
    phi = int(totient(mod))
    e = tower(base, height - 1, phi) + phi
    return pow(base, e, mod)

print(tower(7, 4, 1000))
