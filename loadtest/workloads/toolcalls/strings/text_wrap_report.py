# status: ok
# stdout: |The number of ways to place six non-    |
# stdout: |attacking rooks on a chessboard is the  |
# stdout: |product of two binomials and a          |
# stdout: |factorial.                              |

import textwrap

s = "The number of ways to place six non-attacking rooks on a chessboard is the product of two binomials and a factorial."
for line in textwrap.wrap(s, 40):
    print(f"|{line:<40}|")
