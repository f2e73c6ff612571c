"""The relays of the chaos runs between real connections."""
