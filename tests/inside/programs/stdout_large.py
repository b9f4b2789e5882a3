for i in range(40000):
    print(i, end=" ")
print()
print("x" * 100000)
