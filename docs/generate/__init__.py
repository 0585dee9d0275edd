"""Scripts that write generated files: the demo's picture, the settings' reference, the overrides' types."""
