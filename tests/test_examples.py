"""The examples for clusters name options that exist, and what they refer to."""

import re
import shlex
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from fer import command
from study.run import Options

EXAMPLES = Path(__file__).parents[1] / "examples"
JOB: dict[str, Any] = yaml.safe_load((EXAMPLES / "kuberay.yaml").read_text())


def commands_in(text: str) -> list[str]:
    """The calls of study.run, with continued lines joined and shell variables as numbers."""
    joined = text.replace("\\\n", " ").replace('"$@"', "")
    return re.findall(r"python -m study\.run ([^&]*)", re.sub(r"\$\w+", "1", joined))


@pytest.mark.parametrize("file", ["kuberay.yaml", "slurm_array.sh", "slurm_ray.sh"])
def test_the_command_of_an_example_has_options_that_exist(file: str) -> None:
    text = JOB["spec"]["entrypoint"] if file == "kuberay.yaml" else (EXAMPLES / file).read_text()
    (line,) = commands_in(text)
    options = command.parse(Options, "study.run", shlex.split(line))
    assert options.trials == 500
    assert bool(options.ray) == (file != "slurm_array.sh")


def test_the_kuberay_job_mounts_volumes_it_has_and_uses_a_version_of_ray_that_is_served() -> None:
    assert JOB["kind"] == "RayJob"
    cluster = JOB["spec"]["rayClusterSpec"]
    (needed,) = (
        each.specifier
        for each in map(Requirement, requires("fer-study") or [])
        if each.name == "ray"
    )
    assert needed.contains(cluster["rayVersion"])
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    images = set()
    for group in groups:
        pod = group["template"]["spec"]
        volumes = {each["name"] for each in pod.get("volumes", ())}
        for container in pod["containers"]:
            assert {each["name"] for each in container.get("volumeMounts", ())} <= volumes
            images.add(container["image"])
    assert len(images) == 1  # nodes need the same program
    mounted = [
        each["mountPath"]
        for container in groups[0]["template"]["spec"]["containers"]
        for each in container["volumeMounts"]
    ]
    assert any(f"sqlite:///{path}/" in JOB["spec"]["entrypoint"] for path in mounted)
