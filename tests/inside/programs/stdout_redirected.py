import contextlib, io
with contextlib.redirect_stdout(io.StringIO()) as caught:
    print("hidden")
print(repr(caught.getvalue()))
