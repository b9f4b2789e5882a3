# status: ok
# stdout: offline

import urllib.request

try:
    urllib.request.urlopen("http://127.0.0.1:9/", timeout=2)
except Exception as error:
    print("offline")
