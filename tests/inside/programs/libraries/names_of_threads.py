import threading

import networkx
import pandas

print(threading.Thread().name, threading.current_thread().name, pandas.DataFrame().shape, networkx.Graph().order())
threading.Thread(target=lambda: 1 / 0).start()
