# status: ok
# truncated: stdout
# stdout_sha256: ec363d983c4c65730ec836cc1e73cdb8b56efd02496f92eed1480c9d483011ca

for i in range(20000):
    print("line", i)
