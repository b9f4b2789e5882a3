import __main__
import sys
x = 1
print(__main__.x, __main__ is sys.modules["__main__"])
import main
print(main.__name__)
