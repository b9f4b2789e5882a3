import gc
class A:
    count = 0
    def __init__(self):
        self.me = self
    def __del__(self):
        A.count += 1
for _ in range(20000):
    A()
gc.collect()
print(A.count)
