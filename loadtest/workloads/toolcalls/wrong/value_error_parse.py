# status: failed
# last_error: ValueError: invalid literal for int() with base 10: '7.5'
# stdout: 12

for s in ["12", "7.5", "3"]:
    print(int(s))
