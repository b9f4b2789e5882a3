"""numpy: linear algebra, random numbers, memory-mapped and saved arrays."""

import numpy as np

random = np.random.default_rng(0)
matrix = random.normal(size=(300, 300))
assert np.allclose(matrix @ np.linalg.inv(matrix), np.eye(300))
assert np.linalg.eigvals(matrix).shape == (300,)
assert np.fft.fft(matrix).shape == (300, 300)
np.save("a.npy", matrix)
assert np.array_equal(np.load("a.npy", mmap_mode="r"), matrix)
assert np.zeros(50_000_000)[-1] == 0
print("good")
