import os, tempfile
with tempfile.TemporaryDirectory() as folder:
    print(os.path.dirname(folder), os.path.isdir(folder))
with tempfile.NamedTemporaryFile("w+", suffix=".txt") as file:
    file.write("x")
    file.seek(0)
    print(file.read())
left = tempfile.TemporaryDirectory()
print(oct(os.stat(left.name).st_mode), os.path.expanduser("~"))
