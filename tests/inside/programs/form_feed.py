
print("form")
