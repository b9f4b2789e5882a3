try:
    raise SystemExit(3)
except SystemExit as error:
    error.code = 9
    raise
