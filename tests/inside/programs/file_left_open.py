file = open("left.txt", "w")
file.write("buffered")
def f():
    return file
class Reader:
    def __del__(self):
        print("content:", repr(open_("left.txt").read()))
import atexit
atexit.register(lambda: print("at exit:", repr(open("left.txt").read())))
