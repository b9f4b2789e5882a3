# status: ok
# stdout: refused: insufficient funds
# stdout: Account(owner='Emmy', balance=70, log=[('deposit', 100), ('withdraw', 30)])

from dataclasses import dataclass, field

@dataclass
class Account:
    owner: str
    balance: int = 0
    log: list = field(default_factory=list)

    def deposit(self, amount):
        self.balance += amount
        self.log.append(("deposit", amount))

    def withdraw(self, amount):
        if amount > self.balance:
            raise ValueError("insufficient funds")
        self.balance -= amount
        self.log.append(("withdraw", amount))

a = Account("Emmy")
a.deposit(100)
a.withdraw(30)
try:
    a.withdraw(500)
except ValueError as e:
    print("refused:", e)
print(a)
