import threading
print("mine", threading.x)
