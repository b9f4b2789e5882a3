from dataclasses import dataclass, field
from typing import NamedTuple, get_type_hints
import enum
@dataclass(order=True, slots=True)
class P:
    x: int
    y: "list[int]" = field(default_factory=list)
class N(NamedTuple):
    a: int = 1
class E(enum.Enum):
    RED = enum.auto()
print(P(1), P(1) < P(2), get_type_hints(P), N(), E.RED, repr(P))
