"""The manifests of examples/deploy are valid for Kubernetes, and their parts fit each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from ctxpress.config import Config
from ctxpress.config_file import check_config, load_config
from ctxpress.integrations.vllm.settings import read_settings

ROOT = Path(__file__).resolve().parent.parent
MANIFESTS: list[dict[str, Any]] = [
    document
    for path in sorted((ROOT / "examples/deploy").glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text("utf-8"))
]
NAMES = [f"{m['kind']}/{m['metadata']['name']}" for m in MANIFESTS]


def manifest(name: str) -> dict[str, Any]:
    return MANIFESTS[NAMES.index(name)]


def container(name: str) -> dict[str, Any]:
    (found,) = manifest(name)["spec"]["template"]["spec"]["containers"]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("number", range(len(MANIFESTS)), ids=NAMES)
def test_kubernetes_accepts_a_manifest(number: int) -> None:
    kubernetes_validate.validate(MANIFESTS[number], "1.30", strict=True)


def test_the_validator_refuses_what_is_wrong() -> None:
    wrong = json.loads(json.dumps(manifest("Deployment/proxy")))
    wrong["spec"]["template"]["spec"]["containers"][0]["imagePullPolicie"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.30", strict=True)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    path = tmp_path / "ctxpress.yaml"
    path.write_text(manifest("ConfigMap/ctxpress")["data"]["ctxpress.yaml"], "utf-8")
    assert check_config(path) == []
    return load_config(path)


def test_the_proxy_knows_every_replica_by_its_stable_name(config: Config) -> None:
    replicas = manifest("StatefulSet/vllm")["spec"]
    service = manifest(f"Service/{replicas['serviceName']}")["spec"]
    assert service["clusterIP"] == "None"
    (port,) = service["ports"]
    wanted = [f"http://vllm-{n}.vllm:{port['port']}" for n in range(replicas["replicas"])]
    assert list(config.upstreams["cluster"].urls) == wanted


def test_connectors_and_proxies_meet_at_redis_and_share_a_secret(config: Config) -> None:
    args = container("StatefulSet/vllm")["args"]
    transfer = json.loads(args[args.index("--kv-transfer-config") + 1])
    assert transfer["kv_connector_module_path"] == "ctxpress.integrations.vllm"
    assert transfer["kv_load_failure_policy"] == "recompute"
    settings = read_settings(transfer["kv_connector_extra_config"])
    (port,) = manifest("Service/redis")["spec"]["ports"]
    address = f"redis://redis:{port['port']}/"
    assert settings.store.startswith(address)
    assert config.store.startswith(address)
    assert settings.store != config.store  # KV must not push out what was sent
    for name in ("StatefulSet/vllm", "Deployment/proxy"):
        secret = {entry["name"]: entry for entry in container(name)["env"]}["CTXPRESS_SECRET"]
        assert secret["valueFrom"]["secretKeyRef"] == {"name": "ctxpress", "key": "secret"}


@pytest.mark.parametrize("name", ["StatefulSet/redis", "StatefulSet/vllm", "Deployment/proxy"])
def test_every_workload_is_found_by_its_service_and_says_how_it_is(name: str) -> None:
    spec = manifest(name)["spec"]
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"] == labels
    service = manifest(f"Service/{name.partition('/')[2]}")["spec"]
    assert service["selector"] == labels
    one = container(name)
    ports = {port["name"] for port in one["ports"]}
    assert {port["targetPort"] for port in service["ports"]} <= ports
    assert {"readinessProbe", "livenessProbe", "resources"} <= one.keys()
    volumes = {v["name"] for v in spec["template"]["spec"].get("volumes", [])}
    volumes |= {claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", [])}
    assert {mount["name"] for mount in one.get("volumeMounts", [])} <= volumes
