import weakref
class A:
    pass
a = A()
r = weakref.ref(a, lambda _: print("gone"))
d = weakref.WeakValueDictionary(a=a)
del a
print(r(), dict(d))
