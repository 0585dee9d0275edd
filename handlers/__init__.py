"""The deployed handlers: the notes server, behind each host. Each module is a few lines over the factory."""
