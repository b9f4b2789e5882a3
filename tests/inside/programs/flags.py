import sys
print(sys.flags)
print(sys.dont_write_bytecode, sys.hexversion, sys.warnoptions, sys._xoptions, sys.getswitchinterval(), sys.float_info.dig)
print(sys.getdefaultencoding(), sys.getfilesystemencoding(), sys.getfilesystemencodeerrors(), sys.byteorder, sys.platform)
print(hasattr(sys, "ps1"), hasattr(sys, "last_type"), sys.gettrace(), sys.getprofile(), sys.exc_info())
