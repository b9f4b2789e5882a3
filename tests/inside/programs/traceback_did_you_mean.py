value = 1
class A:
    attribute = 1
try:
    A().atribute
except AttributeError as error:
    print(error)
print(valeu)
