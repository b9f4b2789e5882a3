"""The program's own words."""
x: int = 3
print(__doc__, __annotations__)
