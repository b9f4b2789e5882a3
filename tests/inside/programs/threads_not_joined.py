import threading, time
def work():
    time.sleep(0.1)
    print("finished after main", threading.main_thread().is_alive(), "__file__" in globals())
threading.Thread(target=work).start()
print("main ends")
