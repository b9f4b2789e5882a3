import sys
del sys.modules["__main__"]
try:
    print(__name__)
finally:
    print("end")
