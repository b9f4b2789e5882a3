# status: timed_out
# limit: wall
# limits: wall_s=1
# stdout: waiting for the simulation to settle

import time

print("waiting for the simulation to settle", flush=True)
time.sleep(3600)
