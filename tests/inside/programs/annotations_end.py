class A:
    def __del__(self): print("gone")
x: A() = 1
print("end")
