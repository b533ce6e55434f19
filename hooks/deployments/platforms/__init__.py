"""Where applications run: one module for each platform. Only the composition root names one of them."""
