"""The gateway: one seam to every provider, live and slow."""
