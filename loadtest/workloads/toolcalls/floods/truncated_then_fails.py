# status: failed
# truncated: stdout
# last_error: AssertionError: checksum
# stdout_sha256: f2eba582a0f291c9db158f4fbbdf303d52b2cadfecb00bbae4ab9a07d42097ac

data = list(range(30000))
print(data)
assert sum(data) == 0, "checksum"
