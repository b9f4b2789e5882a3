# status: ok
# stdout: 6

# I think the number of diagonals of an n-gon is n(n-1)/2 ... let me check the square
n = 4
print(n*(n - 1)//2)
