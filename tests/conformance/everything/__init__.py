"""What the everything-server offers, by kind. The names that the suite calls things by are in `server.py`."""
