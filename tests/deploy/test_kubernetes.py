"""Kubernetes manifests: built, valid by schema, consistent with the settings and topics of the code."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from streamchar.messages.topics import TopicNames
from streamchar.stream.settings import load_settings
from tests.deploy.places import DEPLOY, KUBERNETES, documents, rules

Manifest = dict[str, Any]

VERSIONS = ["1.30", "1.37"]
OVERLAYS = sorted(path.name for path in (KUBERNETES / "overlays").iterdir())
SCHEMAS = {
    schema["title"]: schema
    for schema in map(json.loads, (path.read_text() for path in Path(__file__).parent.glob("crd/*.json")))
}
KUSTOMIZATIONS = sorted(KUBERNETES.rglob("kustomization.yaml"))


def build(overlay: str) -> list[Manifest]:
    """Build an overlay with kubectl."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl was not found")
    command = [kubectl, "kustomize", KUBERNETES / "overlays" / overlay]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


@pytest.fixture(scope="module", params=OVERLAYS)
def built(request: pytest.FixtureRequest) -> list[Manifest]:
    return build(request.param)


def plain() -> Iterator[tuple[str, Manifest]]:
    """Every whole manifest as it lies in the repository."""
    for path in sorted(KUBERNETES.rglob("*.yaml")):
        if path.name not in {"kustomization.yaml", "login.yaml"}:
            for number, manifest in enumerate(documents(path)):
                yield f"{path.relative_to(KUBERNETES)}:{number}", manifest


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def validate(manifest: Manifest) -> None:
    """Validate against the schemas of Kubernetes, or against ours for what is not part of it."""
    if manifest["kind"] in SCHEMAS:
        schema = SCHEMAS[manifest["kind"]]
        jsonschema.validate(manifest, schema, cls=jsonschema.Draft202012Validator)
        return
    for version in VERSIONS:
        kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize(
    ("place", "manifest"), list(plain()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_each_manifest_is_valid(place: str, manifest: Manifest) -> None:
    if manifest["kind"] == "StatefulSet":
        manifest = json.loads(json.dumps(manifest))
        manifest["spec"]["template"]["metadata"] = {"labels": {}}  # which kustomize adds
    validate(manifest)


def test_each_built_manifest_is_valid(built: list[Manifest]) -> None:
    for manifest in built:
        validate(manifest)
        assert manifest["kind"] == "Namespace" or manifest["metadata"]["namespace"] == "streamchar"
    names = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in built]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    "change",
    [
        {"spec": {"acls": []}},
        {"spec": {"authorization": {"type": "simple", "acls": [{"resource": {"type": "topics"}}]}}},
        {"apiVersion": "kafka.strimzi.io/v1alpha1"},
    ],
)
def test_the_schemas_refuse_what_is_wrong(change: Manifest) -> None:
    user = documents(KUBERNETES / "components/strimzi/users.yaml")[0]
    with pytest.raises(jsonschema.ValidationError):
        validate({**user, **change})


@pytest.mark.parametrize("path", KUSTOMIZATIONS, ids=lambda path: path.parent.name)
def test_files_of_kustomizations_exist(path: Path) -> None:
    (kustomization,) = documents(path)
    listed = [*kustomization.get("resources", []), *kustomization.get("components", [])]
    listed += [patch["path"] for patch in kustomization.get("patches", []) if "path" in patch]
    for generator in kustomization.get("configMapGenerator", []):
        listed += generator["files"]
    assert listed
    for name in listed:
        assert (path.parent / name).exists(), name
    beside = {each.name for each in path.parent.glob("*.yaml")} - {"kustomization.yaml"}
    assert beside <= set(listed), "a manifest that no kustomization names is not deployed"


def pod(manifests: list[Manifest]) -> tuple[Manifest, Manifest]:
    """The StatefulSet's pod and its container."""
    (workload,) = of_kind(manifests, "StatefulSet")
    spec = workload["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    return spec, container


def test_settings_of_the_pods_exist_and_agree_with_the_manifests(
    built: list[Manifest], tmp_path: Path
) -> None:
    spec, container = pod(built)
    environment = {variable["name"]: variable.get("value", "streamchar-0") for variable in container["env"]}
    (settings_file,) = [each["data"] for each in of_kind(built, "ConfigMap")]
    (tmp_path / "streamchar.toml").write_text(settings_file["streamchar.toml"])
    settings = load_settings(tmp_path / "streamchar.toml", (), environment)
    assert settings.kafka.instance_id == settings.kafka.client_id == "streamchar-0"
    assert settings.topics.create is False
    assert spec["terminationGracePeriodSeconds"] > settings.lifecycle.drain + 30
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {str(root) for root in settings.fetch.roots} <= mounts
    for path in (settings.kafka.sasl_password_file, settings.kafka.ssl_cafile):
        assert path is None or str(path.parent) in mounts
    (port,) = [port["containerPort"] for port in container["ports"] if port["name"] == "http"]
    assert port == settings.http.port
    cores = int(container["resources"]["requests"]["cpu"])
    assert cores >= settings.workers.count
    memory = int(container["resources"]["limits"]["memory"].removesuffix("Gi")) << 30
    workers = settings.workers.count + settings.workers.spares
    assert memory > settings.workers.count * settings.workers.memory_limit or memory > workers * (1 << 30)


def test_pods_are_restricted_and_probed(built: list[Manifest]) -> None:
    spec, container = pod(built)
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    secure = container["securityContext"]
    assert secure["readOnlyRootFilesystem"] is True
    assert secure["allowPrivilegeEscalation"] is False
    assert secure["capabilities"] == {"drop": ["ALL"]}
    probes = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")}
    assert {kind: probe["path"] for kind, probe in probes.items()} == {
        "startup": "/startupz",
        "readiness": "/readyz",
        "liveness": "/livez",
    }
    volumes = {volume["name"] for volume in spec["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    assert any("emptyDir" in volume for volume in spec["volumes"])
    (image,) = {container["image"]}
    assert image.rpartition(":")[2] not in {"latest", ""}


def test_selectors_meet_their_pods_and_only_them(built: list[Manifest]) -> None:
    (workload,) = of_kind(built, "StatefulSet")
    labels = workload["spec"]["template"]["metadata"]["labels"]
    selectors = [workload["spec"]["selector"]["matchLabels"]]
    selectors += [each["spec"]["selector"] for each in of_kind(built, "Service")]
    selectors += [each["spec"]["selector"]["matchLabels"] for each in of_kind(built, "PodDisruptionBudget")]
    (policy,) = of_kind(built, "NetworkPolicy")
    selectors.append(policy["spec"]["podSelector"]["matchLabels"])
    for selector in selectors:
        assert selector.items() <= labels.items()
    for rule in policy["spec"]["egress"]:
        for peer in rule["to"]:
            assert "app.kubernetes.io/name" not in peer["podSelector"]["matchLabels"]


def test_no_more_pods_than_partitions(built: list[Manifest]) -> None:
    (workload,) = of_kind(built, "StatefulSet")
    partitions = TopicNames().all()[TopicNames().exposure_ready].partitions
    scaled = of_kind(built, "ScaledObject")
    if scaled:
        assert "replicas" not in workload["spec"], "each deployment would undo what KEDA chose"
        assert scaled[0]["spec"]["maxReplicaCount"] <= partitions
        assert scaled[0]["spec"]["scaleTargetRef"]["name"] == workload["metadata"]["name"]
    else:
        assert 1 <= workload["spec"]["replicas"] <= partitions


def test_topics_are_those_of_the_code() -> None:
    found = {
        topic["metadata"]["name"]: topic["spec"]
        for topic in documents(KUBERNETES / "components/strimzi/topics.yaml")
    }
    recommended = TopicNames().all()
    assert set(found) == set(recommended)
    for name, spec in found.items():
        assert spec["partitions"] == recommended[name].partitions
        assert spec["replicas"] == 3
        written = {option: str(value) for option, value in spec["config"].items()}
        assert recommended[name].settings().items() <= written.items()


def test_rights_are_on_topics_that_exist() -> None:
    topics = set(TopicNames().all())
    for user in documents(KUBERNETES / "components/strimzi/users.yaml"):
        for acl in user["spec"]["authorization"]["acls"]:
            assert "All" not in acl["operations"]
            resource = acl["resource"]
            if resource["type"] == "topic" and resource["patternType"] == "literal":
                assert resource["name"] in topics
            assert resource["type"] != "cluster"


def test_the_rule_object_holds_all_rules() -> None:
    (written,) = documents(KUBERNETES / "components/monitoring/prometheusrule.yaml")
    assert [rule for group in written["spec"]["groups"] for rule in group["rules"]] == list(rules())


def test_keda_watches_the_group_and_topic_of_the_service() -> None:
    scaled, login = documents(KUBERNETES / "components/autoscaling/scaledobject.yaml")
    (trigger,) = scaled["spec"]["triggers"]
    settings = load_settings(None, (), {})
    assert trigger["metadata"]["consumerGroup"] == settings.kafka.group
    assert trigger["metadata"]["topic"] == settings.topics.names.exposure_ready
    assert trigger["authenticationRef"]["name"] == login["metadata"]["name"]
    assert all(isinstance(value, str) for value in trigger["metadata"].values())
    assert (DEPLOY / "README.md").read_text().count("KEDA") > 3
