# status: ok
# stdout: 12 ['2001-10-02', '2010-01-02', '2011-11-02', '2020-02-02', '2021-12-02']

from datetime import date, timedelta

d = date(2000, 1, 1)
hits = []
while d < date(2100, 1, 1):
    s = d.strftime("%Y%m%d")
    if s == s[::-1]:
        hits.append(d.isoformat())
    d += timedelta(days=1)
print(len(hits), hits[:5])
