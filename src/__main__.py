"""`python -m src` (or `python -m folkform_worker`)."""

from .cli import main

if __name__ == "__main__":
    main()
