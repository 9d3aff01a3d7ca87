"""`python -m autoglm` is `autoglm`."""

from autoglm.cli import main

if __name__ == "__main__":
    main()
