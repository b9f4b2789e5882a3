# status: ok
# stdout: 19/217 0.08755760368663594
# stdout: 361/757 0.4769

from fractions import Fraction as F

prior = F(1, 100)
sens, spec = F(95, 100), F(90, 100)
post = prior*sens/(prior*sens + (1 - prior)*(1 - spec))
print(post, float(post))
post2 = post*sens/(post*sens + (1 - post)*(1 - spec))
print(post2, round(float(post2), 4))
