"""Settings: who wins, what is told when they are wrong, and that secrets stay secret."""

import string
import sys
from pathlib import Path
from typing import Any

import pytest
import trustme
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from autoglm.channels.adapters.wecom_robot import WeComRobotSettings
from autoglm.channels.kinds import KINDS, settings_of
from autoglm.core.errors import SettingsError
from autoglm.settings import Settings, check_start, flat, load_settings, scalar_paths
from autoglm.settings_reasons import PATTERN_WORDS
from toml_text import toml_text

SECRET = "sk-very-secret-4711"
INSTANCE = '[[instance]]\nname = "a"\nprovider = "glm"\n'


def write(folder: Path, text: str) -> Path:
    file = folder / "autoglm.toml"
    file.write_text(text)
    return file


def problems_of(text: str, folder: Path, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(SettingsError) as raised:
        load_settings(write(folder, text), environ=environ or {})
    problems = raised.value.facts["problems"]
    assert isinstance(problems, list)
    return problems


def test_later_sources_win_and_are_named(tmp_path: Path) -> None:
    """Defaults < file < environment < command line."""
    file = write(tmp_path, '[gateway]\nport = 1\nhost = "127.0.0.2"\ndrain_s = 1.5\n')
    environ = {"AUTOGLM_GATEWAY__PORT": "2", "AUTOGLM_GATEWAY__DRAIN_S": "2.5", "PATH": "/bin"}
    loaded = load_settings(file, environ=environ, options={"gateway": {"drain_s": 3.5}})
    gateway = loaded.settings.gateway
    assert (gateway.host, gateway.port, gateway.drain_s) == ("127.0.0.2", 2, 3.5)
    assert loaded.origins == {
        "gateway.host": str(file),
        "gateway.port": "AUTOGLM_GATEWAY__PORT",
        "gateway.drain_s": "the command line",
    }


def test_paths_are_absolute_wherever_they_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the file are relative to its folder, those of variables to the working directory."""
    (tmp_path / "conf").mkdir()
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "conf", '[models]\nfolder = "m"\n')
    from_file = load_settings(Path("conf/autoglm.toml"), environ={})
    assert from_file.settings.models.folder == tmp_path / "conf" / "m"
    from_variable = load_settings(Path("conf/autoglm.toml"), environ={"AUTOGLM_MODELS__FOLDER": "m"})
    assert from_variable.settings.models.folder == tmp_path / "m"


def test_without_a_file_the_defaults_hold() -> None:
    assert load_settings(environ={}).settings == Settings()


def test_the_options_of_the_command_line_are_no_settings() -> None:
    names = ("AUTOGLM_DATA", "AUTOGLM_CONFIG", "AUTOGLM_URL", "AUTOGLM_KEY", "AUTOGLM_CA_FILE", "AUTOGLM_TEST_MODELS")
    assert load_settings(environ=dict.fromkeys(names, "x")).origins == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[gateway]\nprot = 1\n", ["gateway.prot", "'port'"]),
        ("[gatway]\nport = 1\n", ["gatway", "'gateway'"]),
        (f'{INSTANCE}api_kee = "{SECRET}"\n', ["instance[0].api_kee", "'api_key'"]),
        ('[[key]]\nname = "a"\nvalue = "x"\nscope = []\n', ["key[0].scope", "'scopes'"]),
    ],
)
def test_an_unknown_key_names_the_nearest_known_one(tmp_path: Path, text: str, words: list[str]) -> None:
    [problem] = problems_of(text, tmp_path)
    assert all(word in problem for word in [str(tmp_path / "autoglm.toml"), *words])


def test_an_unknown_variable_names_the_nearest_known_one(tmp_path: Path) -> None:
    [problem] = problems_of("", tmp_path, {"AUTOGLM_GATEWAY__PROT": "1"})
    assert "'AUTOGLM_GATEWAY__PORT'" in problem


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    text = '[gateway]\nport = 99999\nhost = 5\n[[instance]]\nname = "a b"\nprovider = "cloud"\n'
    problems = problems_of(text, tmp_path, {"AUTOGLM_X": "1"})
    found = [
        name
        for name in ("AUTOGLM_X", "gateway.port", "gateway.host", "[0].name", "[0].provider")
        if name in str(problems)
    ]
    assert len(problems) == len(found) == 5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[instance]\nname = "a"\n', "instance: write [[instance]], with two brackets"),
        ("gateway = 5\n", "gateway: must be a table: [gateway]"),
        (INSTANCE + INSTANCE, "two [[instance]] are named 'a'"),
        ("[gateway\n", "is not TOML"),
        ("x = " + "[" * 5000 + "]" * 5000, "is not TOML"),
        ("x = " + "9" * 5000, "is not TOML"),
        ("#" * ((1 << 20) + 1), "over 1 MiB"),
        ('[gateway]\ntls_certificate_file = "c.pem"\ntls_key_file = "k.pem"\n', "there is no file"),
        (f'{INSTANCE}ca_file = "ca.pem"\n', "instance[0].ca_file: there is no file"),
        (f'{INSTANCE}api_key = "a"\napi_key_file = "b"\n', "give either api_key or api_key_file"),
        (f'{INSTANCE}api_key_file = "none.key"\n', "none.key cannot be read: No such file"),
        (f'{INSTANCE}api_key_file = "~no-such-user/k"\n', "home directory"),
        (f'{INSTANCE}api_key_file = "\\u0000"\n', "is no text file"),
        ("[store]\nretention_days = inf\n", "store.retention_days"),
        ('[[instance]]\nname = "a"\n', "autoglm.toml: instance[0].provider: is needed, but not given"),
        (
            '[[route]]\nname = "r"\nto = ["user:a"]\nthen = [{ after_s = "2m", to = ["user:b"] }]\n',
            "autoglm.toml: route[0].then[0].after_s: must be a number of seconds, such as 120",
        ),
        (
            '[[route]]\nname = "r"\nto = ["user:a"]\nrepeat_times = "x"\n',
            "autoglm.toml: route[0].repeat_times: must be a whole number",
        ),
        (f'{INSTANCE}models = "glm-4.6"\n', "instance[0].models: must be a list, in square brackets"),
        (f"{INSTANCE}slots = 0\n", "instance[0].slots: must be 1 or more"),
        ('[[instance]]\nname = "a b"\nprovider = "glm"\n', "[0].name: may have letters, digits and . _ -, and begins"),
        ("[engine]\nexplore_share = 2\n", "engine.explore_share: must be 0.2 or less"),
        ('[engine]\nprefer = "quick"\n', "engine.prefer: must be 'fast', 'balanced', 'best' or 'cheap'"),
        ('[scaling]\nmemory_bytes = "4GB"\n', "scaling.memory_bytes: must be a whole number"),
        ('[[intent]]\nname = "a"\nexamples = ["b"]\n', "intent[0].examples: needs at least 3, and has 1"),
    ],
)
def test_problems_are_told_in_plain_words(tmp_path: Path, text: str, words: str) -> None:
    problems = problems_of(text, tmp_path)
    assert any(words in problem for problem in problems)
    assert "pydantic" not in str(problems)


def test_a_list_with_a_wrong_entry_is_not_called_short_as_well(tmp_path: Path) -> None:
    [problem] = problems_of('[[model]]\nname = "m"\nprofiles = ["fast"]\n', tmp_path)
    assert problem.startswith(f"{tmp_path / 'autoglm.toml'}: model[0].profiles[0]: must be 'plain', ")


def patterns_in(schema: object) -> set[str]:
    match schema:
        case dict():
            own = {schema["pattern"]} if isinstance(schema.get("pattern"), str) else set()
            names = set(schema["patternProperties"]) if "patternProperties" in schema else set()
            return own | names | {pattern for value in schema.values() for pattern in patterns_in(value)}
        case list():
            return {pattern for value in schema for pattern in patterns_in(value)}
    return set()


def test_every_pattern_of_a_setting_has_words() -> None:
    models: list[type[BaseModel]] = [Settings, *(model for kind in KINDS if (model := settings_of(kind)) is not None)]
    patterns = patterns_in([model.model_json_schema() for model in models])
    assert len(patterns) >= 20
    assert patterns - set(PATTERN_WORDS) == set()


CHANNELS = """
[[channel]]
name = "hooks"
kind = "webhook"
incoming_to = "channel:hooks/mes"

[channel.endpoints.erp]
url = "https://erp.example/hooks"
secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

[[route]]
name = "alarms"
to = ["user:alice", "channel:hook/erp", "channel:hooks/erp", "channel:hooks/epr"]

[[route.then]]
after_s = 1
to = ["channel:mqtt/hall"]

[[person]]
address = "user:alice"

[[person.reach]]
by = "channel:sms/alice"
"""


def test_an_alarm_is_never_the_first_to_find_that_an_address_leads_nowhere(tmp_path: Path) -> None:
    loaded = load_settings(write(tmp_path, CHANNELS), environ={})
    with pytest.raises(SettingsError) as raised:
        check_start(loaded.settings)
    told = raised.value.problems
    assert [problem.split(": ")[0] for problem in told] == [
        "route[0].to", "route[0].to", "route[0].then[0].to", "person[0].reach[0].by", "channel[0].incoming_to",
    ]  # fmt: skip
    assert "Did you mean 'hooks'?" in told[0]
    assert "no target 'epr'; its settings name: erp" in told[1]


def test_the_channel_of_the_hubs_own_broker_is_there(tmp_path: Path) -> None:
    own = '[mqtt_broker]\nenabled = true\n[[route]]\nname = "a"\nto = ["channel:mqtt/hall"]\n'
    check_start(load_settings(write(tmp_path, own), environ={}).settings)
    named = own + '[[channel]]\nname = "devices"\nkind = "mqtt"\nurl = "mqtt://own"\n'
    check_start(load_settings(write(tmp_path, named.replace("mqtt/hall", "devices/hall")), environ={}).settings)


def test_a_channel_whose_package_is_missing_is_told_by_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    tail = '[[channel]]\nname = "tail"\nkind = "apprise"\n[channel.services.desk]\nurl = "json://desk"\n'
    with pytest.raises(SettingsError, match=r"channel\[0\].kind: .*pip install 'autoglm-hub\[apprise\]'"):
        check_start(load_settings(write(tmp_path, tail), environ={}).settings)


def test_a_budget_for_a_key_that_is_not_there_does_not_start() -> None:
    key = {"name": "ward", "value": "sk-1"}
    budgets = [{"name": name, "key": name, "requests": 3} for name in ("ward", "admin", "*", "wrad")]
    budgets[2]["name"] = "each"
    wrong = Settings.model_validate({"key": [key], "budget": budgets})
    with pytest.raises(SettingsError, match=r"^budget\[3\].key: no \[\[key\]\] is named 'wrad'. Did you mean 'ward'"):
        check_start(wrong)
    check_start(wrong.model_copy(update={"budget": wrong.budget[:3]}))


def test_a_missing_file_is_a_problem_only_when_it_was_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="there is no file"):
        load_settings(tmp_path / "none.toml", environ={})


def test_secrets_are_read_from_files_beside_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "glm.key").write_text(f"{SECRET}\n")
    (tmp_path / "robot.key").write_text(f"  {SECRET}-2\n")
    text = f'{INSTANCE}api_key_file = "keys/glm.key"\n[[key]]\nname = "r"\nvalue_file = "{tmp_path}/robot.key"\n'
    file = write(tmp_path, text)
    monkeypatch.chdir("/")
    loaded = load_settings(file, environ={})
    [instance], [key] = loaded.settings.instance, loaded.settings.key
    assert instance.api_key is not None
    assert key.value is not None
    assert (instance.api_key.get_secret_value(), key.value.get_secret_value()) == (SECRET, f"{SECRET}-2")
    assert loaded.origins["instance[0].api_key"] == str(tmp_path / "keys" / "glm.key")


def test_an_empty_key_file_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "glm.key").write_text("\n")
    [problem] = problems_of(f'{INSTANCE}api_key_file = "glm.key"\n', tmp_path)
    assert problem.endswith("glm.key is empty")


def test_paths_are_relative_to_the_settings_file(tmp_path: Path) -> None:
    certificate = trustme.CA().issue_cert("localhost")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "c.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "k.pem")
    (tmp_path / "ca.pem").touch()
    text = (
        '[gateway]\ntls_certificate_file = "c.pem"\ntls_key_file = "./k.pem"\n[models]\nfolder = "files"\n'
        f'{INSTANCE}ca_file = "ca.pem"\n'
    )
    loaded = load_settings(write(tmp_path, text), environ={}).settings
    assert loaded.gateway.tls_certificate_file == tmp_path / "c.pem"
    assert loaded.gateway.tls_key_file == tmp_path / "k.pem"
    assert loaded.models.folder == tmp_path / "files"
    assert loaded.instance[0].ca_file == tmp_path / "ca.pem"


def test_a_certificate_that_is_none_is_found_before_the_start(tmp_path: Path) -> None:
    for name in ("c.pem", "k.pem"):
        (tmp_path / name).write_text("junk")
    [problem] = problems_of('[gateway]\ntls_certificate_file = "c.pem"\ntls_key_file = "k.pem"\n', tmp_path)
    assert "are no PEM certificate with its plain key" in problem


def test_secrets_never_show(tmp_path: Path) -> None:
    """Not in repr, not in the listing, not in an error about their neighbour."""
    proxy = f"http://me:{SECRET}@proxy:3128"
    good = f'{INSTANCE}api_key = "{SECRET}"\nproxy = "{proxy}"\n[[key]]\nname = "k"\nvalue = "{SECRET}"\n'
    loaded = load_settings(write(tmp_path, good), environ={})
    listing = {path: value for path, value, _ in flat(loaded.settings)}
    assert listing["instance[0].api_key"] == listing["key[0].value"] == "********"
    assert listing["instance[0].proxy"] == '"http://********@proxy:3128"'
    shown = repr(loaded.settings.key) + repr(loaded.settings.instance[0].api_key) + str(listing)
    for wrong in ("slots = 0", "api_key = [1]", f'base_url = "ftp://me:{SECRET}@host"', 'mode = "embedding"'):
        shown += str(problems_of(good.replace(f'api_key = "{SECRET}"', wrong), tmp_path))
    shown += str(problems_of(good + "scopes = [5]\n", tmp_path)) + str(
        problems_of(good + 'value_file = "x"\n', tmp_path)
    )
    assert SECRET not in shown


def test_every_value_is_listed_with_its_text() -> None:
    rows = {path: (value, text) for path, value, text in flat(Settings())}
    assert set(scalar_paths()) <= set(rows)
    assert rows["gateway.host"][0] == '"127.0.0.1"'
    assert rows["gateway.allow_insecure_bind"][0] == "false"
    assert rows["models.folder"][0] == "(none)"
    assert rows["store.tail_max_records"][1].startswith("The newest records that stay in memory")


WORDS = (
    "instance key model name provider models strip scopes value value_file api_key api_key_file ca_file base_url mode"
)
KNOWN = {part for path in scalar_paths() for part in path.split(".")} | set(WORDS.split())
NAMES = st.sampled_from(sorted(KNOWN)) | st.text(max_size=6)
LEAVES: st.SearchStrategy[Any] = (
    st.none().map(lambda _: "local")
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats()
    | st.sampled_from(["glm", "~", "a", "/", "", "http://x", ".."])
    | st.text(max_size=8)
)
TREES = st.dictionaries(
    NAMES,
    st.recursive(
        LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=8
    ),
    max_size=6,
)
QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def load_or_refuse(file: Path | None, environ: dict[str, str]) -> None:
    """Anything but settings or a SettingsError fails the test."""
    try:
        assert isinstance(load_settings(file, environ=environ).settings, Settings)
    except SettingsError as error:
        problems = error.facts["problems"]
    else:
        problems = ["none"]
    assert problems


@QUICK
@given(TREES)
def test_fuzz_any_tree_is_taken_or_refused(tmp_path: Path, tree: dict[str, Any]) -> None:
    load_or_refuse(write(tmp_path, toml_text(tree)), {})


@QUICK
@given(st.binary(max_size=60) | st.text(alphabet=string.printable, max_size=60).map(str.encode))
def test_fuzz_any_bytes_are_taken_or_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "autoglm.toml").write_bytes(content)
    load_or_refuse(tmp_path / "autoglm.toml", {})


VARIABLES = st.sampled_from(["AUTOGLM_" + path.upper().replace(".", "__") for path in scalar_paths()] + ["AUTOGLM_"])


@QUICK
@given(st.dictionaries(VARIABLES | st.text(max_size=8).map("AUTOGLM_".__add__), st.text(max_size=8), max_size=4))
def test_fuzz_any_environment_is_taken_or_refused(environ: dict[str, str]) -> None:
    load_or_refuse(None, environ)


def test_the_workers_of_an_instance_share_their_names_with_no_other(tmp_path: Path) -> None:
    local = {"provider": "local", "models": ["m"]}
    tree = {"instance": [{"name": "small", **local, "replicas_max": 3}, {"name": "small-2", **local}]}
    with pytest.raises(SettingsError, match=r"two .* are named 'small-2'"):
        load_settings(write(tmp_path, toml_text(tree)), environ={})


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"provider": "local", "replicas_min": 3, "replicas_max": 2}, "replicas_min is more than replicas_max"),
        ({"provider": "openai", "replicas_max": 2, "sleep_after_s": 5}, "replicas_max and sleep_after_s: only for"),
    ],
)
def test_what_only_local_workers_have_is_refused_elsewhere(tmp_path: Path, fields: dict[str, Any], reason: str) -> None:
    tree = {"instance": [{"name": "a", "models": ["m"], **fields}]}
    with pytest.raises(SettingsError, match=reason):
        load_settings(write(tmp_path, toml_text(tree)), environ={})


# --- channels: what a kind has ---


def channel_settings(folder: Path, text: str) -> Settings:
    file = folder / "autoglm.toml"
    file.write_text(text)
    return load_settings(file, environ={}).settings


ROBOT = '[[channel]]\nname = "wecom"\nkind = "wecom-robot"\n'


def test_a_channels_secret_may_lie_in_a_file_beside_the_settings(tmp_path: Path) -> None:
    (tmp_path / "ops.key").write_text("k-1\n")
    (channel,) = channel_settings(tmp_path, f'{ROBOT}[channel.robots.ops]\nkey_file = "ops.key"\n').channel
    assert isinstance(channel, WeComRobotSettings)
    assert channel.robots["ops"].key.get_secret_value() == "k-1"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (f'{ROBOT}[channel.robots.ops]\nkex = "a"\n', "channel[0].robots.ops.kex: no setting has this name."),
        (f'{ROBOT}robotsx = 1\n', "Did you mean 'robots'?"),
        (ROBOT.replace("wecom-robot", "wecom-rob"), "Did you mean 'wecom-robot'? Known:"),
        (ROBOT.replace('"wecom"', '"We Com"'), "channel[0].name: may have a-z, 0-9, _ and -"),
        ('[[channel]]\nname = "x"\n', "channel[0].kind: is needed"),
        ('[channel]\nname = "x"\n', "channel: write [[channel]], with two brackets"),
        ("channel = [3]\n", "channel[0]: must be a table"),
        (f'{ROBOT}[channel.quiet]\nfrom = "25:00"\nto = "07:00"\n', 'must be a time of day such as "22:00"'),
        (f'{ROBOT}[channel.quiet]\nfrom = "22:00"\nto = "07:00"\nzone = "Mars"\n', "'Mars' is no time zone"),
        (f'{ROBOT}[channel.robots.ops]\nkey_file = "not there"\n', "channel[0].robots.ops.key_file: "),
        ((f'{ROBOT}[channel.robots.ops]\nkey = "secret-1"\n' * 2), "two [[channel]] are named 'wecom'"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_channel_is_said_plainly(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        channel_settings(tmp_path, text)
    assert problem in str(caught.value)
    assert "secret-1" not in str(caught.value)


def test_a_channels_secret_is_masked(tmp_path: Path) -> None:
    settings = channel_settings(tmp_path, f'{ROBOT}[channel.robots.ops]\nkey = "secret-1"\n')
    assert ("channel[0].robots.ops.key", "********") in [(name, value) for name, value, _ in flat(settings)]
    assert "secret-1" not in repr(settings)
