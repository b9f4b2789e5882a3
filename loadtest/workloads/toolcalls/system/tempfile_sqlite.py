# status: ok
# stdout: (28, 89530, 95)

import sqlite3

db = sqlite3.connect(":memory:")
db.execute("create table t (n integer, s integer)")
db.executemany("insert into t values (?, ?)", [(n, n*n) for n in range(1, 101)])
print(db.execute("select count(*), sum(s), max(n) from t where s % 7 = 2").fetchone())
