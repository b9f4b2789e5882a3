# status: failed
# last_error: KeyError: 'c'
# stdout: a 1
# stdout: b 2

values = {"a": 1, "b": 2}
for key in "abc":
    print(key, values[key])
