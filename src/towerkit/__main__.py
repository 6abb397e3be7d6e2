"""``python -m towerkit``."""

from towerkit.cli import main

if __name__ == "__main__":
    main()
