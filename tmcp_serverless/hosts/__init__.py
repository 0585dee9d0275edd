"""What calls us: Lambda, containers, the local cluster."""
