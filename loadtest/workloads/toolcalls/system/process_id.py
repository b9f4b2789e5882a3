# status: ok
# stdout_varies: the pid

import os

print(os.getpid())
