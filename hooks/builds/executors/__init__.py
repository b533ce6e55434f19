"""Where builds can run. One module each; only the composition root names one of them."""
