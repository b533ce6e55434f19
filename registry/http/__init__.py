"""The HTTP rim: who is calling, what they may do, and how facts become answers."""
