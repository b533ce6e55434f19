import unittest

from shop.till import price


class Till(unittest.TestCase):
    def test_a_price_is_a_number(self):
        self.assertGreater(float(price().split()[0]), 0)
