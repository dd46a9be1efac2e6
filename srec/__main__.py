"""`python -m srec`, the same as `srec`."""

from srec.cli import main

if __name__ == "__main__":
    main()
