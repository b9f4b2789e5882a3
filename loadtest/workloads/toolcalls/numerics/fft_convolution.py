# status: ok
# stdout: [6, 23, 18, 55, 35, 112, 96, 109, 134, 80, 124, 28, 48]
# stdout: [6, 23, 18, 55, 35, 112, 96, 109, 134, 80, 124, 28, 48]

import numpy as np

# multiply two polynomials with the FFT
a = [3, 1, 4, 1, 5, 9, 2, 6]
b = [2, 7, 1, 8, 2, 8]
n = 16
prod = np.fft.irfft(np.fft.rfft(a, n)*np.fft.rfft(b, n), n)
print([int(round(v)) for v in prod[:len(a) + len(b) - 1]])
print(np.convolve(a, b).tolist())
