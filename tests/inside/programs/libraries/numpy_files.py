import numpy as np
np.save("a.npy", np.arange(5))
np.savetxt("a.txt", np.eye(2), fmt="%d")
print(np.load("a.npy"), open("a.txt").read(), np.memmap("a.npy", mode="r").shape)
