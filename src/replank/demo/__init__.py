"""A shop under load whose modules are replaced while it sells: `replank demo`."""
