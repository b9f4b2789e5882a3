import os, random
os.register_at_fork(before=lambda: print("before", flush=True), after_in_child=lambda: print("in child", flush=True), after_in_parent=lambda: None)
state = random.getstate()
if os.fork() == 0:
    print("reseeded", random.getstate() != state)
else:
    os.wait()
    print("kept", random.getstate() == state)
