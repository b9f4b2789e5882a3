import sys
depth = 0
def f():
    global depth
    depth += 1
    f()
try:
    f()
except RecursionError as error:
    print(depth, error)
print(sys.getrecursionlimit())
sys.setrecursionlimit(5000)
depth = 0
try:
    f()
except RecursionError as error:
    print(depth, error)
try:
    sys.setrecursionlimit(1)
except RecursionError as error:
    print(error)
