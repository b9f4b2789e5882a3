# status: timed_out
# limit: wall
# limits: wall_s=1

import subprocess

subprocess.run(["sleep", "60"])
print("done")
