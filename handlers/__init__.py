"""What is deployed: the notes server, behind each host. One module for each, a few lines over the factory."""
