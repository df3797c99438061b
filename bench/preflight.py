"""Check that everything `bench/gpu.sh` imports is installed. Needs only the standard library.

Reports everything that is missing at once, before GPU time is spent.
"""

import importlib
import sys

PACKAGES = (
    *("torch", "torchvision", "optuna", "alembic", "mako", "colorlog", "sqlalchemy", "pydantic"),
    *("pydantic_core", "annotated_types", "typing_inspection", "tyro", "docstring_parser"),
    *("typeguard", "platformdirs", "numpy", "scipy", "sklearn", "pandas", "pyarrow", "plotly"),
    *("matplotlib", "PIL", "yaml", "rich", "safetensors", "psutil", "cloudpickle", "pytest"),
)
OURS = ("study.run", "fer.pipeline", "bench.__main__", "bench.accuracy", "tests.test_gpu")


def missing(names: tuple[str, ...]) -> list[str]:
    """Return the modules that cannot be imported, each with the reason."""
    lacking = []
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:
            lacking.append(f"{name}: {type(error).__name__}: {' '.join(str(error).split())[:150]}")
    return lacking


def main() -> int:
    lacking = missing(PACKAGES) or missing(OURS)
    for line in lacking:
        print(f"missing  {line}", file=sys.stderr)
    return 2 if lacking else 0


if __name__ == "__main__":
    raise SystemExit(main())
