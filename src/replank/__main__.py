"""`python -m replank`."""

from replank.cli.app import main

if __name__ == "__main__":
    main()
