"""`python -m crackclf.cli`."""

from crackclf.cli import main

main()
