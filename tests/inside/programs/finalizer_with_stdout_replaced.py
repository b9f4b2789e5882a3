import io, sys
class A:
    def __del__(self):
        print("still heard")
a = A()
sys.stdout = io.StringIO()
print("not heard")
