import datetime
import time

print(time.tzname, time.timezone, time.localtime(0)[:5], time.mktime((1970, 1, 1, 0, 0, 0, 0, 0, 0)))
print(datetime.datetime.fromtimestamp(0), datetime.datetime.fromtimestamp(0).astimezone())
