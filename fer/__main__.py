"""`python -m fer` lists the commands; `python -m fer COMMAND` runs one."""

from fer.commands import choose


def main() -> None:
    choose("fer")


if __name__ == "__main__":
    main()
