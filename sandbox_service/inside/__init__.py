"""What runs in the jail. Standard library only; imports nothing from outside this folder."""
