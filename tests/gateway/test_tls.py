"""The hub by TLS: the same API, for clients that trust its certificate."""

import json
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
import trustme
from websockets.sync.client import connect

from autoglm.gateway.settings import GatewaySettings
from autoglm.settings import Settings
from cli.terminal import autoglm
from gateway.inside import hub_inside
from hub import HubProcess, instance_config, running_hub
from scripted_model import ScriptedModel


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA) -> Iterator[HubProcess]:
    folder = tmp_path_factory.mktemp("tls")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    certificate = authority.issue_cert("127.0.0.1")
    (folder / "d").mkdir()
    certificate.private_key_pem.write_to_path(folder / "d" / "key.pem")
    for number, blob in enumerate(certificate.cert_chain_pems):
        blob.write_to_path(folder / "d" / "cert.pem", append=number > 0)
    config = '[gateway]\ntls_certificate_file = "cert.pem"\ntls_key_file = "key.pem"\n'
    with ScriptedModel() as model, running_hub(folder / "d", config + instance_config("a", model.url)) as process:
        yield process


def test_requests_streams_and_messages_go_by_tls(hub: HubProcess, authority: trustme.CA) -> None:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    assert hub.url.startswith("https://")
    body = {"model": "echo-model", "messages": [{"role": "user", "content": "hi"}]}
    with hub.client(verify=context) as client:
        for _ in range(3):
            answer = client.post("/v1/chat/completions", json=body)
            assert answer.json()["choices"][0]["message"]["content"] == "You said: hi"
        streamed = client.post("/v1/chat/completions", json={**body, "stream": True})
        assert streamed.text.rstrip().endswith("data: [DONE]")
        assert client.post("/api/messages", json={"to": "user:a", "content": "x" * 300_000}).status_code == 202
        assert len(client.get("/api/messages?to=user:a&wait=5").json()["messages"][0]["content"]) == 300_000
    headers = {"Authorization": f"Bearer {hub.admin_key}"}
    url = hub.url.replace("https", "wss") + "/api/ws"
    with connect(url, ssl=context, additional_headers=headers, proxy=None) as ws:
        assert json.loads(ws.recv(timeout=10))["type"] == "welcome"


def test_who_does_not_trust_the_certificate_says_so(hub: HubProcess) -> None:
    with pytest.raises(httpx2.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        hub.client().get("/healthz")


def test_the_commands_take_the_authority(hub: HubProcess) -> None:
    done = autoglm("ask", "hello", "--ca-file", hub.data_dir.parent / "ca.pem", data=hub.data_dir)
    assert (done.status, done.out.strip()) == (0, "You said: hello")


@pytest.mark.parametrize("command", [("ask", "hello"), ("pool",)])
def test_a_command_with_http_for_https_is_told_so_at_once(hub: HubProcess, command: tuple[str, ...]) -> None:
    plain_url = hub.url.replace("https", "http")
    started_s = time.monotonic()
    done = autoglm(*command, "--url", plain_url, data=hub.data_dir)
    assert time.monotonic() - started_s < 5
    told = f"autoglm: no hub answers at {plain_url} (what is there speaks https); use {hub.url}\n"
    assert (done.status, done.err) == (1, told)


def test_a_command_with_https_for_http_is_told_so(tmp_path: Path) -> None:
    with running_hub(tmp_path / "d") as plain:
        tls_url = plain.url.replace("http", "https")
        done = autoglm("pool", "--url", tls_url, data=plain.data_dir)
    told = f"autoglm: no hub answers at {tls_url} (what is there speaks plain http); use {plain.url}\n"
    assert (done.status, done.err) == (1, told)


def test_the_doctor_knows_the_hub_that_holds_the_port(hub: HubProcess) -> None:
    """With its authority it asks the hub; without, it still does not take the hub's own port for a stranger's."""
    environ = {"AUTOGLM_GATEWAY__PORT": str(hub.port)}
    for options, words in [
        (("--ca-file", hub.data_dir.parent / "ca.pem"), hub.url),
        ((), "its certificate is not trusted here"),
    ]:
        done = autoglm("doctor", "env", "--json", *options, data=hub.data_dir, environ=environ)
        findings = {finding["name"]: finding for finding in json.loads(done.out)}
        assert words in findings["hub"]["text"]
        assert findings["port"]["text"] == "the running hub has it"
        assert done.status == 0


def test_the_list_of_models_asks_a_hub_with_an_authority_of_its_own(hub: HubProcess) -> None:
    (hub.data_dir / "models").mkdir()
    (hub.data_dir / "models" / "tiny.gguf").write_bytes(b"GGUF")
    done = autoglm("models", "list", "--json", "--ca-file", hub.data_dir.parent / "ca.pem", data=hub.data_dir)
    assert [model["served"] for model in json.loads(done.out)] == [False]


def test_a_client_that_speaks_plain_http_breaks_nothing(hub: HubProcess, authority: trustme.CA) -> None:
    with pytest.raises(httpx2.HTTPError):
        httpx2.get(hub.url.replace("https", "http") + "/healthz")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with hub.client(verify=context) as client:
        assert client.get("/healthz").status_code == 200


def test_an_open_page_does_not_hold_up_a_stop(tmp_path: Path) -> None:
    """A client that reads nothing answers no goodbye of TLS; the drain is for requests that run. See `hub_inside`."""
    gateway = GatewaySettings.model_validate({"port": 0, "drain_s": 60, "tls": "own-ca", "tls_names": ["hub.lan"]})
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with hub_inside(tmp_path / "data", Settings(gateway=gateway)) as hub:
        client = context.wrap_socket(socket.create_connection(("127.0.0.1", hub.port)), server_hostname="hub.lan")
        client.sendall(b"GET /healthz HTTP/1.1\r\nhost: hub.lan\r\n\r\n")
        assert client.recv(12) == b"HTTP/1.1 200"
    client.close()
