"""The networks: equations in terms of `trivd.ops`."""
