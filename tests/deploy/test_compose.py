"""compose.yaml: settings that exist, files that exist, ports that stay on the machine, privileges that are dropped."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from streamchar.stream.settings import load_settings
from tests.deploy.places import DEPLOY

COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("streamchar:")}


KEYS = {
    "build",
    "cap_drop",
    "command",
    "depends_on",
    "environment",
    "healthcheck",
    "image",
    "mem_limit",
    "ports",
    "read_only",
    "restart",
    "security_opt",
    "stop_grace_period",
    "tmpfs",
    "volumes",
}
"""Elements of a service in the Compose Specification that are used here."""


def interpolated(text: str) -> str:
    """Text with ``${NAME:-default}`` replaced by the default."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def test_a_compose_plugin_accepts_the_file() -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True).returncode != 0:
        pytest.skip("docker compose was not found")
    command = [docker, "compose", "-f", DEPLOY / "compose.yaml", "config", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, env={"GRAFANA_PASSWORD": "x"}, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", SERVICES)
def test_elements_are_those_of_the_specification(name: str) -> None:
    service = SERVICES[name]
    assert set(service) <= KEYS
    assert re.fullmatch(r"[a-z0-9./-]+:[A-Za-z0-9.]+", service["image"]), "an image has a fixed tag"
    assert service["restart"] in {"no", "unless-stopped"}
    assert set(service.get("healthcheck", {})) <= {
        "test",
        "interval",
        "timeout",
        "start_period",
        "retries",
        "disable",
    }
    for port in service.get("ports", []):
        assert re.fullmatch(r"[\d.]+:\d+:\d+", port)
    for variables in re.findall(r"\$\{[^}]*\}", json.dumps(service)):
        assert re.fullmatch(r"\$\{[A-Z_]+(:-[^}]*|:\?[^}]+)\}", variables), variables


@pytest.mark.parametrize("name", OURS)
def test_settings_exist(name: str) -> None:
    environment = {key: interpolated(str(value)) for key, value in OURS[name]["environment"].items()}
    settings = load_settings(None, (), environment)
    assert settings.kafka.bootstrap == "kafka:9092"
    if name == "streamchar":
        assert settings.kafka.instance_id == "compose-1"
        assert [str(root) for root in settings.fetch.roots] == ["/exposures"]
        grace = int(OURS[name]["stop_grace_period"].removesuffix("s"))
        assert grace > settings.lifecycle.drain + 5


def test_services_wait_for_services_that_exist_and_can_be_healthy() -> None:
    for service in SERVICES.values():
        for other, wait in service.get("depends_on", {}).items():
            assert other in SERVICES
            assert wait["condition"] in {
                "service_started",
                "service_healthy",
                "service_completed_successfully",
            }
            if wait["condition"] == "service_healthy":
                assert "test" in SERVICES[other]["healthcheck"]


def test_files_that_are_mounted_exist() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume if isinstance(volume, str) else ""
            if source.startswith("./"):
                assert (DEPLOY / source.split(":")[0]).exists(), volume
            elif source:
                assert source.split(":")[0] in COMPOSE["volumes"], volume


def test_ports_are_open_to_this_machine_only() -> None:
    for service in SERVICES.values():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), port


@pytest.mark.parametrize("name", [name for name in SERVICES if name != "kafka"])
def test_containers_have_no_privileges(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_kafka_is_one_node_that_keeps_transactions() -> None:
    environment = SERVICES["kafka"]["environment"]
    listeners = dict(part.split("://") for part in environment["KAFKA_LISTENERS"].split(","))
    protocols = dict(
        part.split(":") for part in environment["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(",")
    )
    assert set(listeners) == set(protocols) == {"INSIDE", "CONTROLLER", "OUTSIDE"}
    assert len(environment["CLUSTER_ID"]) == 22
    for topic in ("OFFSETS_TOPIC_REPLICATION_FACTOR", "TRANSACTION_STATE_LOG_REPLICATION_FACTOR"):
        assert environment[f"KAFKA_{topic}"] == 1


def test_prometheus_scrapes_the_port_that_the_service_opens() -> None:
    configuration = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    (job,) = configuration["scrape_configs"]
    assert job["job_name"] == "streamchar"
    (target,) = job["static_configs"][0]["targets"]
    name, port = target.split(":")
    assert name in SERVICES
    assert int(port) == load_settings(None, (), {}).http.port
    json.dumps(configuration)
