class A:
    def __del__(self):
        print("del", self.__class__.__name__)
x = A()
y = [A()]
print("end")
