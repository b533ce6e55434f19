"""The routers there are, a module each; only the composition root names one."""
