"""`python -m study` lists the commands; `python -m study COMMAND` runs one."""

from fer.commands import choose


def main() -> None:
    choose("study")


if __name__ == "__main__":
    main()
