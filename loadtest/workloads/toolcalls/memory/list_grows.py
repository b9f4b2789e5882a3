# status: out_of_memory
# limits: memory_mb=64
# stdout: collecting all states

print("collecting all states", flush=True)
states = []
while True:
    states.append([len(states)]*1000)
