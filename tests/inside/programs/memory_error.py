try:
    x = [0] * (1 << 60)
except MemoryError as error:
    print(repr(error))
bytearray(1 << 62)
