"""What a sale costs; the other half of the change."""

VERSION = "1"


def price(cents):
    return cents
