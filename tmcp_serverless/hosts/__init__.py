"""The platforms that call the kit: Lambda, containers, the local cluster."""
