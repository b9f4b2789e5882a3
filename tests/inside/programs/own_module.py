import helper
from pack import inner
print(helper.f(), helper.__file__)
