import os
print(os.system("exit 5"), os.popen("echo popened").read())
