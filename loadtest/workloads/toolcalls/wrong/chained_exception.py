# status: failed
# last_error: RuntimeError: cannot parse 'seventeen'
# stdout: 17

def parse(s):
    try:
        return int(s)
    except ValueError as e:
        raise RuntimeError(f"cannot parse {s!r}") from e

print(parse("17"))
print(parse("seventeen"))
