n = int(input())
print(n, list(map(int, input("numbers? ").split())))
print(input())
try:
    input()
except EOFError as error:
    print("end:", error)
