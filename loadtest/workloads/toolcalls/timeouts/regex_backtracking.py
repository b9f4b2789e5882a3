# status: timed_out
# limits: wall_s=1

import re

print(re.match(r"(a+)+$", "a"*40 + "b"))
