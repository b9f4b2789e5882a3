import sys
def f():
    try:
        sys.exit(5)
    finally:
        print("finally", sys.exc_info()[0])
f()
