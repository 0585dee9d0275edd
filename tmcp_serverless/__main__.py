"""`python -m tmcp_serverless`: the command line, if its script is not on the path."""

from tmcp_serverless.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
