import sys
print(2**1000)
print(sys.get_int_max_str_digits())
try:
    print(10**5000)
except ValueError as error:
    print(error)
sys.set_int_max_str_digits(0)
print(len(str(10**5000)))
