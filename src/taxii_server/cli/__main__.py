"""`python -m taxii_server.cli` is `taxii-server`."""

from taxii_server.cli import main

if __name__ == "__main__":
    main()
