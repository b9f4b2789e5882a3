import csv, os
with open("data/numbers.csv") as file:
    print(list(csv.DictReader(file)))
with open("out.txt", "w") as file:
    file.write("x" * 10)
print(sorted(os.listdir(".")), os.stat("out.txt").st_size, oct(os.stat("out.txt").st_mode))
os.mkdir("made")
print(oct(os.stat("made").st_mode))
