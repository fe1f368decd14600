"""What starts a cluster elsewhere: read and checked as far as that goes without Kubernetes and without Slurm."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pytest
import yaml

from fmnist_sweep.config.compose import compose_job
from tests.support import ROOT
from tests.support.process import LIMIT_SECONDS

DEPLOY = ROOT / "deploy"


def objects() -> dict[str, dict[str, Any]]:
    return {each["kind"]: each for each in yaml.safe_load_all((DEPLOY / "kuberay.yaml").read_text())}


def pods() -> Iterator[dict[str, Any]]:
    """The pods' specs: head, workers, the sweep's."""
    cluster = objects()["RayCluster"]["spec"]
    yield cluster["headGroupSpec"]["template"]["spec"]
    yield from (group["template"]["spec"] for group in cluster["workerGroupSpecs"])
    yield objects()["Job"]["spec"]["template"]["spec"]


def test_no_pod_runs_as_root_and_each_has_the_token_from_the_secret() -> None:
    assert len(list(pods())) == 3
    images = set()
    for pod in pods():
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            images.add(container["image"])
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }
            environment = {each["name"]: each for each in container["env"]}
            assert environment["RAY_AUTH_MODE"]["value"] == "token"
            secret = {"secretKeyRef": {"name": "fmnist-ray", "key": "auth_token"}}
            assert environment["RAY_AUTH_TOKEN"] == {"name": "RAY_AUTH_TOKEN", "valueFrom": secret}
    assert len(images) == 1


def test_the_jobs_command_is_a_shell_script_and_its_overrides_compose() -> None:
    spec = objects()["Job"]["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    *shell, script, name = container["command"][:4]
    assert (shell, name) == (["bash", "-euc"], "sweep")
    subprocess.run(["bash", "-n"], input=script, text=True, check=True, timeout=LIMIT_SECONDS)
    (typed,) = re.findall(r"-m fmnist_sweep (.*) \"\$@\"", script)
    config = compose_job([*typed.split(), *container["command"][4:]]).config
    assert config.executor.name == "ray"
    mounted = {each["mountPath"] for each in container["volumeMounts"]}
    assert {container["workingDir"], str(config.data.dir)} == mounted
    assert {each["name"] for each in container["volumeMounts"]} == {each["name"] for each in spec["volumes"]}


def test_the_cluster_has_the_version_of_ray_that_is_installed() -> None:
    try:
        installed = version("ray")
    except PackageNotFoundError:
        pytest.skip("needs Ray: pip install 'fmnist_sweep[ray]'")
    assert objects()["RayCluster"]["spec"]["rayVersion"] == installed


def test_bash_accepts_the_slurm_script_and_outside_a_job_it_says_so() -> None:
    script = DEPLOY / "slurm.sh"
    subprocess.run(["bash", "-n", script], check=True, timeout=LIMIT_SECONDS)
    outside = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    done = subprocess.run([script], env=outside, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
    assert done.returncode != 0
    assert "sbatch deploy/slurm.sh" in done.stderr
