import gc
class A:
    def __del__(self): print("del A")
a=A(); a.a=a; 
gc.unfreeze(); print(gc.get_freeze_count()); del a; print(gc.collect()>0); gc.collect(); 
for i in range(3): gc.freeze(); gc.unfreeze(); gc.collect()
gc.set_debug(0); print("end")
