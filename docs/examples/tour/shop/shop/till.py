"""What things cost."""


def price():
    return "2.50"
