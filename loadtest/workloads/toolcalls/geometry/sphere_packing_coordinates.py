# status: ok
# stdout: height of the stack: 3.632993
# stdout: radius of the enclosing sphere: 2.224745

# Four mutually tangent unit spheres rest on each other; smallest enclosing cube side?
import math

height = 2*math.sqrt(2/3)
print(f"height of the stack: {height + 2:.6f}")
circum = math.sqrt(6)/4*2
print(f"radius of the enclosing sphere: {circum + 1:.6f}")
