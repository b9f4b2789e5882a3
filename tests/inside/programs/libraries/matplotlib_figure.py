import matplotlib
import matplotlib.pyplot as plt
print(matplotlib.get_backend())
plt.plot([1, 2, 3])
plt.savefig("figure.png")
print(open("figure.png", "rb").read(8))
plt.show()
